// The form in which a query or message is written, sent and stopped.

import { at, grouped } from "./dom.js";

const WORDS = {
  compare: { label: "Your query", send: "Answer", hint: "Ask something, or paste a text to work on" },
  chat: { label: "Your message", send: "Send", hint: "Say something" },
};

export class Composer {
  /** Calls `send()` and `stop()` on a click or key, and `changed()` when the text changes. */
  constructor({ send, stop, changed }) {
    this._most = Infinity;
    at("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    at("query").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    });
    at("query").addEventListener("input", changed);
    at("stop").addEventListener("click", stop);
    document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
    at("longest").addEventListener("input", () => (at("longest-note").textContent = ""));
    at("longest").addEventListener("change", () => this.maxTokens);
  }

  /** Take the longest answer of a server. */
  serve(maxTokens) {
    this._most = at("longest").max = maxTokens;
    at("longest").value = Math.min(at("longest").valueAsNumber || maxTokens, maxTokens);
  }

  /** Words for a mode, "compare" or "chat". */
  place(mode) {
    const { label, send, hint } = WORDS[mode];
    at("query-label").textContent = label;
    at("send").textContent = send;
    at("query").placeholder = hint;
  }

  get query() {
    return at("query").value;
  }

  set query(text) {
    at("query").value = text;
  }

  focus() {
    at("query").focus();
  }

  /** Tokens that an answer may have; a number that this server does not write is changed, which is said. */
  get maxTokens() {
    const typed = at("longest").valueAsNumber;
    const set = Math.min(Math.max(Math.round(typed) || this._most, 1), this._most);
    at("longest").value = set;
    if (typed !== set) {
      const why = typed > set ? ", the most that this server writes" : "";
      at("longest-note").textContent = `Set to ${grouped(set)}${why}.`;
    }
    return set;
  }

  say(text) {
    at("status").textContent = text;
  }

  /** One button sends and, while answers are written, another in its place stops them; the focus stays on it. */
  set busy(busy) {
    const [gone, here] = busy ? [at("send"), at("stop")] : [at("stop"), at("send")];
    const focused = document.activeElement === gone;
    document.body.classList.toggle("answering", busy);
    here.hidden = false;
    gone.hidden = true;
    if (focused) here.focus();
  }
}
