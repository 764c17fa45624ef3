// One column of the page: an answer as it streams in, and its facts.

export class Column {
  constructor(section) {
    this._message = section.querySelector(".message");
    this._text = section.querySelector(".text");
    this._facts = section.querySelector(".facts");
    this._hint = section.querySelector(".hint");
  }

  /** Show chunks until there are no more, or the source throws; screen readers hear the text when it is whole. */
  async show(chunks) {
    const text = document.createTextNode("");
    const begun = performance.now();
    let first, written = 0, last, usage, finish;
    this._text.replaceChildren(text);
    this._facts.replaceChildren();
    this._hint.remove();
    this._message.setAttribute("aria-busy", "true");
    try {
      for await (const chunk of chunks) {
        last = chunk;
        usage = chunk.usage ?? usage;
        finish = chunk.choices[0]?.finish_reason ?? finish;
        const piece = chunk.choices[0]?.delta.content;
        if (!piece) continue;
        first ??= performance.now() - begun;
        written += 1;
        text.appendData(piece);
      }
    } finally {
      if (last) this._facts.append(...facts(last.steering, usage, finish, first, written));
      this._message.setAttribute("aria-busy", "false");
    }
  }
}

function facts(steering, usage, finish, first, written) {
  const count = usage
    ? `${usage.prompt_tokens} read, ${usage.completion_tokens} written${finish === "length" ? " (the limit)" : ""}`
    : `stopped after ${written}`;
  const pairs = { Tokens: count };
  if (first !== undefined) pairs["First token"] = `after ${(first / 1000).toFixed(2)} s`;
  pairs.Applied = applied(steering);
  return Object.entries(pairs).flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
}

/** What an answer says it was steered by, in words. */
function applied(steering) {
  if (!steering) return "nothing; this is the base model";
  const [first, last] = steering.layers;
  const layers = first === last ? `layer ${first}` : `layers ${first}-${last}`;
  const { bundle, bundle_id: id, strength, positions } = steering;
  return `${bundle} ${id}, strength ${strength}, ${layers}, ${positions}`;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
