// Queries to click, for the bundles that have some in examples.json.

import { at, element } from "./dom.js";

export class Examples {
  /** `choose(query)` is called with what was clicked. */
  constructor(choose) {
    this._choose = choose;
    this._loaded = fetch("/page/examples.json").then((response) => response.json());
  }

  /** Show those of a bundle. */
  async show(bundle) {
    const found = (await this._loaded)[bundle] ?? [];
    at("examples").hidden = !found.length;
    at("examples").querySelector("ul").replaceChildren(...found.map((example) => this._item(example)));
  }

  _item({ task, query }) {
    const item = element("li");
    const button = element("button");
    button.type = "button";
    button.append(element("b", task), element("span", query));
    button.addEventListener("click", () => this._choose(query));
    item.append(button);
    return item;
  }
}
