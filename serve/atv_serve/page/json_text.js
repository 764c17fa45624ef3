// JSON made readable: indented, with names, texts and numbers in colours.

import { element } from "./dom.js";

const PARTS = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\b(?:true|false|null)\b/g;

/** Nodes that show a text which is a JSON object or list, null for any other text. */
export function jsonNodes(text) {
  const value = parsed(text);
  if (value === null || typeof value !== "object") return null;
  const indented = JSON.stringify(value, null, 2);
  const nodes = [];
  let end = 0;
  for (const match of indented.matchAll(PARTS)) {
    const [whole, string, colon] = match;
    nodes.push(indented.slice(end, match.index), element("span", string ?? whole, colon ? "name" : string ? "string" : "value"));
    nodes.push(colon ?? "");
    end = match.index + whole.length;
  }
  return [...nodes, indented.slice(end)];
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
