// An answer as it streams in: its text, probabilities, what cut it short, and its facts.

import { chat } from "./api.js";
import { at, element, grouped } from "./dom.js";
import { jsonNodes } from "./json_text.js";
import { probabilityRows } from "./probabilities.js";

export class Answer {
  /** In a section of the page; `ask(request)` is called when more of an answer is wanted. */
  constructor(section, ask) {
    const part = (name) => section.querySelector(`.${name}`);
    const heading = section.querySelectorAll("h2");
    section.prepend(at("answer-parts").content.cloneNode(true)); // above the hint, which goes with the first answer
    this._message = part("message");
    this._message.prepend(...heading); // read aloud together with the text
    [this._text, this._limit, this._more] = [part("text"), part("limit"), part("more")];
    [this._probabilities, this._facts, this._copy] = [part("probabilities"), part("facts"), part("copy")];
    this._hint = part("hint");
    this._more.addEventListener("click", () => ask(this._longer));
    this._copy.addEventListener("click", () => this._copied());
    this.text = "";
  }

  /**
   * Show the answer to a request: {messages, steering, maxTokens, format, limits}. Screen readers hear the text when it
   * is whole. With `continues` the text that is there stays until the new one is longer.
   */
  async show(request, signal) {
    const before = request.continues ? this.text : "";
    const begun = performance.now();
    let first, written = 0, last, usage, finish, probabilities;
    this._clear();
    this._set(before);
    this._message.setAttribute("aria-busy", "true");
    this.text = "";
    try {
      for await (const chunk of chat(request, signal)) {
        const [choice] = chunk.choices;
        last = chunk;
        usage = chunk.usage ?? usage;
        finish = choice?.finish_reason ?? finish;
        probabilities = choice?.probabilities ?? probabilities;
        if (!choice?.delta.content) continue;
        first ??= performance.now() - begun;
        written += 1;
        this.text += choice.delta.content;
        if (this.text.length > before.length) this._set(this.text);
      }
    } finally {
      if (!this.text) this.text = before;
      if (last) this._facts.append(...facts(last.steering, usage, first, written));
      if (finish === "length") this._cut(request, usage);
      if (probabilities) this._probabilities.append(...probabilityRows(probabilities));
      this._text.replaceChildren(...(jsonNodes(this.text) ?? [this.text]));
      this._text.classList.toggle("json", Boolean(jsonNodes(this.text)));
      this._copy.hidden = !this.text || !navigator.clipboard; // there is none over plain HTTP from another machine
      this._message.setAttribute("aria-busy", "false");
    }
  }

  /** Scroll to where it will be, if that is out of sight. */
  reveal() {
    this._message.scrollIntoView({ block: "nearest" });
  }

  _clear() {
    this._hint?.remove();
    this._copy.hidden = this._more.hidden = true;
    for (const part of [this._facts, this._probabilities, this._limit]) part.replaceChildren();
    this._text.classList.remove("json");
  }

  _set(text) {
    this._text.textContent = text;
  }

  /** Say which limit ended it, and offer to go on if there is room. */
  _cut(request, usage) {
    const { maxTokens, limits } = request;
    const full = usage && usage.completion_tokens < maxTokens;
    const most = maxTokens >= limits.maxTokens;
    this._limit.textContent = full
      ? `Stopped because the context of ${grouped(limits.context)} tokens is full.`
      : `Stopped at ${grouped(maxTokens)} tokens${most ? ", the most that this server writes" : ""}.`;
    this._more.hidden = full || most;
    this._longer = { ...request, maxTokens: Math.min(2 * maxTokens, limits.maxTokens), continues: true };
  }

  async _copied() {
    await navigator.clipboard.writeText(this._text.textContent);
    this._copy.textContent = "Copied";
    setTimeout(() => (this._copy.textContent = "Copy"), 2000);
  }
}

function facts(steering, usage, first, written) {
  const count = usage
    ? `${usage.prompt_tokens} read, ${usage.completion_tokens} written`
    : `stopped after ${written}`;
  const pairs = { Tokens: count };
  if (first !== undefined) pairs["First token"] = `after ${(first / 1000).toFixed(2)} s`;
  pairs.Applied = applied(steering);
  return Object.entries(pairs).map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  });
}

/** What an answer says it was steered by, in words. */
function applied(steering) {
  if (!steering) return "nothing; this is the base model";
  const [first, last] = steering.layers;
  const layers = first === last ? `layer ${first}` : `layers ${first}-${last}`;
  const { bundle, bundle_id: id, control_vectors: vectors = [], strength, positions } = steering;
  const added = vectors.map(({ name, scale }) => `${scale} × ${name}`);
  const generator = bundle ? [`${bundle} ${id}`] : []; // none where its gate is closed
  return [...generator, ...added, `strength ${strength}`, layers, positions].join(", ");
}
