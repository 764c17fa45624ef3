// The norms of the vector that the controls and the query ask for, fetched when they change.

import { norms } from "./api.js";
import { draw } from "./chart.js";
import { at, grouped } from "./dom.js";

const PAUSE = 200; // milliseconds without a change before they are fetched

export class Norms {
  /** `query()` is the text that steers, after the `instruction`. */
  constructor(controls, instruction, query) {
    this._controls = controls;
    this._instruction = instruction;
    this._query = query;
    this._drawn = ""; // what the bars show
  }

  later() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this.look(), PAUSE);
  }

  async look() {
    const [steering, whole] = ["steering", "whole"].map((name) => {
      const each = this._controls[name];
      return each && this._instruction.with(each, each);
    });
    clearTimeout(this._timer);
    this._looking?.abort();
    if (!whole) return;
    const { signal } = (this._looking = new AbortController());
    const query = this._query();
    const wanted = JSON.stringify([query, whole, steering]);
    if (wanted === this._drawn) return;
    try {
      if (query.trim()) {
        const asked = [steering, whole].map((each) => norms(query, each, signal));
        const [added, all] = await Promise.all(asked);
        draw(at("norms"), added.norms, all.norms);
        const notes = [added.gate && !added.gate.steered && unsteered(added.gate)];
        notes.push(all.read_length < [...query].length && cut(all.read_length));
        this._say(notes.filter(Boolean).join(" "));
      } else {
        const nothing = Array(whole.layers[1]).fill(0);
        draw(at("norms"), nothing, nothing);
        this._say("The vector is read from the query; there is none yet.");
      }
      this._drawn = wanted;
    } catch (error) {
      if (error.name !== "AbortError") this._say(error.message);
    }
  }

  _say(text) {
    at("norms-note").textContent = text;
  }
}

function unsteered({ score, task, threshold }) {
  const shown = score.toFixed(2);
  return `Not steered: this query scores ${shown} as ${task}, and the bundle asks for ${threshold}.`;
}

function cut(length) {
  return `The vector is read from the first ${grouped(length)} characters; the generator reads no more.`;
}
