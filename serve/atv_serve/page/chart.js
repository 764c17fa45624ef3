// Norms by layer, as bars and as a table.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;

/**
 * Draw norms, one for each layer from the first on, over pale ones of the whole vector.
 * The axis fits both, so that what is changed changes the bars and not the axis; above strength 1 it has to.
 */
export function draw(figure, added, whole) {
  const svg = figure.querySelector("svg");
  const [pale, solid] = svg.childElementCount / 2 === added.length ? bars(svg) : made(svg, added.length);
  const peak = Math.max(...added, ...whole);
  const top = ceiling(peak);
  added.forEach((norm, index) => {
    pale[index].setAttribute("height", (HEIGHT * whole[index]) / top);
    solid[index].setAttribute("height", (HEIGHT * norm) / top);
    solid[index].dataset.norm = norm;
  });
  figure.querySelector(".axis.top").textContent = peak ? String(top) : "";
  svg.setAttribute("aria-label", summary(added));
  const rows = added.map((norm, index) => row(index + 1, norm));
  figure.querySelector("tbody").replaceChildren(...rows);
}

/** The bars in words. */
export function summary(norms) {
  const highest = Math.max(...norms);
  if (!highest) return "Bars by layer: nothing is added.";
  const first = norms.findIndex((norm) => norm > 0) + 1;
  const last = norms.findLastIndex((norm) => norm > 0) + 1;
  const where = norms.indexOf(highest) + 1;
  const least = norms.slice(first - 1, last).reduce((a, b) => Math.min(a, b));
  return `Bars by layer: layers ${first} to ${last} get from ${short(least)} to ${short(highest)}, most at layer ${where}.`;
}

function made(svg, count) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${count} ${HEIGHT}`);
  for (const kind of ["whole", "added"]) {
    for (let index = 0; index < count; index++) {
      const bar = document.createElementNS(SVG, "rect");
      bar.setAttribute("class", kind);
      bar.setAttribute("x", index + 0.18);
      bar.setAttribute("width", 0.64);
      bar.setAttribute("height", 0);
      svg.append(bar);
    }
  }
  return bars(svg);
}

const bars = (svg) => [[...svg.querySelectorAll(".whole")], [...svg.querySelectorAll(".added")]];

function row(layer, norm) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = layer;
  const cell = document.createElement("td");
  cell.textContent = short(norm);
  line.append(head, cell);
  return line;
}

/** The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => step * unit >= value * 0.999);
  return Number((step * unit).toPrecision(2));
}

const short = (value) => (value ? value.toPrecision(3) : "0");
