// The page: a query, its answers without and with steering, and the vector between them.

import { chat, models, norms, Refused, useKey } from "./api.js";
import { draw } from "./chart.js";
import { Column } from "./column.js";
import { Controls } from "./controls.js";

const at = (id) => document.getElementById(id);
const PAUSE = 200; // milliseconds without a change before the norms are asked for

const controls = new Controls(later);
const columns = { base: new Column(at("base")), steered: new Column(at("steered")) };
let answering = null; // AbortController of the answers that are being written
let looking = null; // and of the norms
let drawn = ""; // what the norms on the page are of
let timer;

async function start() {
  try {
    const found = await models();
    const [model] = found;
    const steers = found.some((each) => each.steering);
    at("served").textContent = model.target;
    at("longest").max = model.max_tokens;
    at("longest").value = Math.min(at("longest").valueAsNumber || model.max_tokens, model.max_tokens);
    at("steered").hidden = !steers;
    controls.serve(found);
    at("unlock").hidden = true;
    tell(steers ? "" : "This server has no bundle, so there is nothing to steer by; start it with -g BUNDLE.");
  } catch (error) {
    explain([error]);
  }
}

async function answer() {
  answering?.abort();
  const run = (answering = new AbortController());
  const query = at("query").value;
  const longest = at("longest").valueAsNumber;
  const show = (name, steering) => columns[name].show(chat(query, steering, longest, run.signal));
  tell("");
  standing("Answering…", true);
  look(); // first, since it is quick and the answers are not
  const asked = [show("base", false)];
  if (!at("steered").hidden) asked.push(show("steered", controls.steering));
  const errors = (await Promise.allSettled(asked)).flatMap((each) => each.reason ?? []);
  if (run !== answering) return; // another query came meanwhile
  answering = null;
  standing(run.signal.aborted ? "Stopped." : errors.length ? "" : "Done.", false);
  explain(errors);
}

/** The norms for what the controls and the query stand at. */
async function look() {
  clearTimeout(timer);
  looking?.abort();
  if (!controls.whole) return;
  const run = (looking = new AbortController());
  const query = at("query").value;
  const wanted = JSON.stringify([query, controls.whole, controls.steering]);
  if (wanted === drawn) return;
  try {
    if (!query.trim()) {
      const nothing = Array(controls.whole.layers[1]).fill(0);
      draw(at("norms"), nothing, nothing);
    } else {
      const asked = [controls.steering, controls.whole].map((steering) => norms(query, steering, run.signal));
      const [added, whole] = await Promise.all(asked);
      draw(at("norms"), added.norms, whole.norms);
    }
    drawn = wanted;
    at("norms-note").textContent = query.trim() ? "" : "The vector is read from the query; there is none yet.";
  } catch (error) {
    if (error.name !== "AbortError") at("norms-note").textContent = error.message;
  }
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(look, PAUSE);
}

function stop() {
  answering?.abort();
}

/** What went wrong, in words; a key that is missing can be typed at once. */
function explain(errors) {
  const ours = errors.filter((error) => error.name !== "AbortError");
  const strange = ours.find((error) => !(error instanceof Refused));
  if (strange) console.error(strange);
  const locked = ours.some((error) => error.status === 401);
  if (locked) {
    at("unlock").hidden = false;
    at("key").focus();
  }
  tell([...new Set(ours.map((error) => error.message))].join(" "));
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

function standing(text, busy) {
  at("status").textContent = text;
  at("stop").setAttribute("aria-disabled", String(!busy)); // not disabled, which would take the focus away
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  answer();
});
at("query").addEventListener("input", later);
at("stop").addEventListener("click", stop);
at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  start();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  if (event.key === "Escape") stop();
});
start();
