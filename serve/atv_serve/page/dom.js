// What every module does with the document.

export const at = (id) => document.getElementById(id);

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** With separators, as 2,048. */
export const grouped = (number) => number.toLocaleString("en");
