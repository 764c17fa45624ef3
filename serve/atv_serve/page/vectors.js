// The control vectors of the server, each with its factor.

import { at, element } from "./dom.js";

export class ControlVectors {
  /** `changed` is called when a factor changes. */
  constructor(changed) {
    at("vectors").addEventListener("input", changed);
  }

  /** Offer those of a model. */
  serve(vectors) {
    const rows = vectors.map(({ name }, index) => row(name, `vector-${index}`));
    at("vectors").querySelector("div").replaceChildren(...rows);
    at("vectors").hidden = !rows.length;
  }

  reset() {
    for (const input of this._inputs) input.value = 0;
  }

  /** A request's `control_vectors`: those with a factor other than 0. */
  get chosen() {
    return this._inputs
      .map((input) => ({ name: input.name, scale: input.valueAsNumber || 0 }))
      .filter(({ scale }) => scale);
  }

  get _inputs() {
    return [...at("vectors").querySelectorAll("input")];
  }
}

function row(name, id) {
  const line = element("p", "", "field");
  const label = element("label", name);
  const input = element("input");
  label.htmlFor = input.id = id;
  Object.assign(input, { name, type: "number", step: 0.1, value: 0 });
  line.append(label, input);
  return line;
}
