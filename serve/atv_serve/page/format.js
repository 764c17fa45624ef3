// The answer's format: free text, one of some choices, or JSON.

import { at } from "./dom.js";

const NAMES = { text: "free text", choices: "choices", schema: "JSON" };
const PROBLEMS = { choices: choicesProblem, schema: schemaProblem };

export class Format {
  /** `labels()` are those of the bundle: the choices to begin with. */
  constructor(labels) {
    this._labels = labels;
    at("format-kinds").addEventListener("change", () => this.place());
    for (const kind of ["choices", "schema"]) at(kind).addEventListener("input", () => this._check());
  }

  /** Fields of a request; null if what was typed is invalid, which is said beside it. */
  get fields() {
    if (this._kind === "text") return {};
    if (this._check()) {
      at("format").open = true;
      at(this._kind).focus();
      return null;
    }
    if (this._kind === "choices") return { choices: choicesOf(at("choices").value) };
    const schema = at("schema").value.trim();
    const json_schema = schema && { name: "answer", schema: JSON.parse(schema) };
    return { response_format: schema ? { type: "json_schema", json_schema } : { type: "json_object" } };
  }

  get _kind() {
    return at("format-kinds").querySelector(":checked").value;
  }

  /** Show the field of the chosen kind, which the browser may have restored. */
  place() {
    for (const kind of ["choices", "schema"]) at(`${kind}-field`).hidden = kind !== this._kind;
    at("format-chosen").textContent = NAMES[this._kind];
    if (this._kind === "choices" && !at("choices").value.trim()) at("choices").value = this._labels().join("\n");
  }

  /** What is wrong with what was typed, empty if nothing is. */
  _check() {
    const kind = this._kind;
    const problem = PROBLEMS[kind](at(kind).value);
    at(kind).setAttribute("aria-invalid", String(Boolean(problem)));
    at(`${kind}-note`).textContent = problem;
    return problem;
  }
}

/** One per line, or divided by commas if there is only one line; each once. */
function choicesOf(text) {
  const lines = text.trim().split("\n");
  const parts = lines.length > 1 ? lines : text.split(",");
  return [...new Set(parts.map((part) => part.trim()).filter(Boolean))];
}

function choicesProblem(text) {
  return choicesOf(text).length < 2 ? "Name at least two different answers." : "";
}

function schemaProblem(text) {
  if (!text.trim()) return "";
  try {
    const schema = JSON.parse(text);
    return schema && typeof schema === "object" && !Array.isArray(schema) ? "" : "A schema is a JSON object, {…}.";
  } catch (error) {
    return `This is not JSON: ${error.message}.`;
  }
}
