// What a query asks, in words: the instruction of a task of the bundle, or any other.

import { at } from "./dom.js";

export class Instruction {
  /** `known()` are those of the bundle by its tasks; `changed` is called whenever another is chosen or typed. */
  constructor(known, changed) {
    this._known = known;
    at("instruction").addEventListener("input", () => {
      this._name();
      changed();
    });
  }

  /** Offer the instructions of the chosen bundle. */
  place() {
    const offered = Object.entries(this._known()).map(([task, text]) => Object.assign(new Option(task), { value: text }));
    at("instructions").replaceChildren(...offered);
    this._name();
  }

  /** A request's `steering` with what is asked; `whole` is that of the bundle, false without one. */
  with(steering, whole) {
    const { said } = this;
    if (!Object.keys(said).length) return steering;
    if (steering) return { ...steering, ...said };
    return whole ? { ...whole, strength: 0, ...said } : said; // the base model reads it too
  }

  /** The fields that say it, none if nothing is asked. */
  get said() {
    const text = at("instruction").value.trim();
    if (!text) return {};
    const task = this._task(text);
    return task ? { task } : { instruction: text };
  }

  _task(text) {
    return Object.entries(this._known()).find(([, known]) => known === text)?.[0];
  }

  _name() {
    const text = at("instruction").value.trim();
    at("instruction-chosen").textContent = text ? (this._task(text) ?? "in words") : "none";
  }
}
