// The chat: its turns, and as many of them as fit into the context.

import { Answer } from "./answer.js";
import { at, grouped } from "./dom.js";

const MAX_MESSAGES = 255; // of a request; the last one is the user's

export class Conversation {
  /** `run(pairs)` shows answers to requests and returns their errors; `changed` is called when turns come or go. */
  constructor(run, changed) {
    this._run = run;
    this._changed = changed;
    this._turns = [];
    this._from = 0; // the first turn that is still sent
  }

  get empty() {
    return !this._turns.length;
  }

  /** What was asked last. */
  get last() {
    return this._turns.at(-1)?.text ?? "";
  }

  clear() {
    this._turns = [];
    this._from = 0;
    at("log").replaceChildren();
    this._changed();
  }

  /** Ask the next question; false if nothing was answered. `settings` is the request without the messages. */
  async ask(text, settings) {
    const turn = this._add(text, settings);
    let errors = await this._show(turn, settings);
    while (errors.some((error) => error.code === "context_length_exceeded") && this._from < this._turns.length - 1) {
      this._from += 1;
      errors = await this._show(turn, settings);
    }
    if (!errors.length || turn.answer.text || !this._turns.includes(turn)) return true;
    this._remove(turn);
    return false;
  }

  _show(turn, settings) {
    this._from = Math.max(this._from, this._turns.length - (MAX_MESSAGES + 1) / 2);
    turn.note.textContent = this._from
      ? `The context has ${grouped(settings.limits.context)} tokens; earlier messages that were left out: ${2 * this._from}.`
      : "";
    return this._run([[turn.answer, { ...settings, messages: this._messages() }]]);
  }

  _messages() {
    const messages = this._turns.slice(this._from).flatMap(({ text, answer }) => [
      { role: "user", content: text },
      { role: "assistant", content: answer.text },
    ]);
    return messages.slice(0, -1); // the last one is to be answered
  }

  _add(text) {
    const item = at("turn-parts").content.cloneNode(true).firstElementChild;
    item.querySelector(".mine").textContent = text;
    const answer = new Answer(item.querySelector(".theirs"), (longer) => this._run([[answer, longer]]));
    const turn = { text, item, answer, note: item.querySelector(".left-out") };
    this._turns.push(turn);
    at("log").append(item);
    this._changed();
    this._follow(item);
    return turn;
  }

  _remove(turn) {
    this._turns = this._turns.filter((each) => each !== turn);
    turn.item.remove();
    this._changed();
  }

  /** Scroll down as an answer grows, unless somebody has scrolled up. */
  _follow(item) {
    const log = at("log");
    log.scrollTop = log.scrollHeight;
    let top = log.scrollTop;
    new ResizeObserver(() => {
      if (log.scrollTop < top - 4) return;
      log.scrollTop = log.scrollHeight;
      top = log.scrollTop;
    }).observe(item);
  }
}
