// The steering controls: their values, and the defaults of each bundle.

import { at } from "./dom.js";
import { ControlVectors } from "./vectors.js";

const MOST = 2; // the slider's end, unless a bundle asks for more
const POSITIONS = {
  decode: "The last prompt token and every generated one.",
  last: "Only the last prompt token.",
  all: "Every token, of the prompt too.",
};

export class Controls {
  /** `changed` is called whenever they stand elsewhere. */
  constructor(changed) {
    this._changed = changed;
    this._models = [];
    this._vectors = new ControlVectors(changed);
    at("on").addEventListener("change", changed);
    at("positions").addEventListener("change", () => this._place());
    at("bundle").addEventListener("change", () => this._reset());
    at("reset").addEventListener("click", () => this._reset());
    at("strength").addEventListener("input", () => this._setStrength(at("strength").valueAsNumber));
    at("strength-number").addEventListener("input", () => this._typed());
    at("strength-number").addEventListener("change", () => this._clamp());
    for (const id of ["first", "last"]) at(id).addEventListener("input", () => this._moved(id));
    at("steering").addEventListener("submit", (event) => event.preventDefault());
  }

  /** Take the models of a server; without a bundle there is nothing to steer by. */
  serve(models) {
    this._models = models.filter((model) => model.steering);
    this._vectors.serve(models[0].control_vectors);
    at("bundle").replaceChildren(...this._models.map((model) => new Option(model.id)));
    at("bundles").hidden = this._models.length < 2;
    at("steering").hidden = !this._models.length;
    if (this._models.length) this._reset();
  }

  /** Name of the bundle; undefined if there is none. */
  get bundle() {
    return this._model?.id;
  }

  /** Labels that the bundle was trained on. */
  get labels() {
    return this._model?.labels ?? [];
  }

  /** Instructions that the bundle was trained with, by its tasks. */
  get instructions() {
    return this._model?.instructions ?? {};
  }

  /** What a request's `steering` is to be. */
  get steering() {
    if (!this._models.length || !at("on").checked) return false;
    const vectors = this._vectors.chosen;
    const chosen = { strength: this._strength, layers: this._layers, positions: this._positions };
    return { ...this.whole, ...chosen, ...(vectors.length && { control_vectors: vectors }) };
  }

  /** The same for the whole vector as its generator writes it; false if there is no bundle. */
  get whole() {
    const model = this._model;
    return model ? { bundle: model.id, strength: 1, layers: model.steerable_layers } : false;
  }

  get _model() {
    return this._models[at("bundle").selectedIndex];
  }

  get _positions() {
    return at("positions").querySelector(":checked").value;
  }

  get _layers() {
    return [at("first").valueAsNumber, at("last").valueAsNumber];
  }

  _reset() {
    const { steerable_layers, steering } = this._model;
    const most = Math.max(MOST, Math.ceil(steering.strength));
    at("on").checked = true;
    this._vectors.reset();
    at("positions").querySelector(`[value="${steering.positions}"]`).checked = true;
    this._place();
    at("strength").max = at("strength-number").max = most;
    at("first").max = at("last").max = steerable_layers[1];
    at("layers").style.setProperty("--layers", steerable_layers[1]);
    [at("first").value, at("last").value] = steering.layers;
    this._setStrength(steering.strength);
    this._moved("last");
  }

  _place() {
    at("positions-note").textContent = POSITIONS[this._positions];
    this._changed();
  }

  /** Take a number that was typed; one beyond the slider's ends becomes the nearest end, which is said. */
  _clamp() {
    const { min, max, valueAsNumber: typed } = at("strength-number");
    const strength = Number.isNaN(typed) ? this._strength : Math.min(Math.max(typed, min), max);
    this._setStrength(strength);
    if (typed !== strength && !Number.isNaN(typed)) {
      at("strength-note").textContent = `Set to ${strength}: here strength goes from ${min} to ${max}.`;
    }
  }

  /** The number is what counts: the slider has steps. */
  _setStrength(strength) {
    at("strength-note").textContent = "";
    this._strength = strength;
    at("strength").value = strength;
    at("strength-number").value = strength;
    this._changed();
  }

  /** While a number is typed it is left as it is, and what is none, or out of range, waits until it is left. */
  _typed() {
    const number = at("strength-number");
    if (Number.isNaN(number.valueAsNumber) || number.validity.rangeUnderflow || number.validity.rangeOverflow) return;
    this._strength = at("strength").value = number.valueAsNumber;
    this._changed();
  }

  /** One end of the range pushes the other. */
  _moved(id) {
    const [first, last] = this._layers;
    if (first > last) at(id === "first" ? "last" : "first").value = at(id).value;
    const [from, to] = this._layers;
    at("span").textContent = from === to ? String(from) : `${from}-${to}`;
    const end = this._model.steerable_layers[1];
    at("layers").style.setProperty("--from", (from - 1) / Math.max(1, end - 1));
    at("layers").style.setProperty("--to", (to - 1) / Math.max(1, end - 1));
    at("first").classList.toggle("above", from > end / 2); // or two thumbs at the end could not be parted
    this._changed();
  }
}
