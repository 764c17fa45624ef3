// The probabilities of allowed answers, as bars.

import { element } from "./dom.js";

const SHOWN = 8;

/** Rows for {choice: probability}, the likeliest first; those after the first few are summed up in one. */
export function probabilityRows(probabilities) {
  const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const rest = ranked.slice(SHOWN);
  const shown = ranked.slice(0, SHOWN);
  if (rest.length) shown.push([`${rest.length} others`, rest.reduce((sum, [, each]) => sum + each, 0)]);
  return shown.flatMap(([choice, probability]) => [
    element("dt", choice),
    bar(probability),
  ]);
}

function bar(probability) {
  const made = element("dd", `${(100 * probability).toFixed(1)} %`);
  made.style.setProperty("--share", probability);
  return made;
}
