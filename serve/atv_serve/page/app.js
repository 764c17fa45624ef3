// The page: queries, their answers without and with steering, and the vector between them.

import { Answer } from "./answer.js";
import { formats, models, Refused, useKey } from "./api.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { at, grouped } from "./dom.js";
import { Examples } from "./examples.js";
import { Format } from "./format.js";
import { Norms } from "./norms.js";

const WORDS = {
  compare: { label: "Your query", send: "Answer", hint: "Ask something, or paste a text to work on" },
  chat: { label: "Your message", send: "Send", hint: "Say something" },
};

const format = new Format();
const controls = new Controls(() => {
  norms.later();
  if (bundle !== controls.bundle) examples.show((bundle = controls.bundle));
});
const norms = new Norms(controls, () => {
  const query = at("query").value;
  return query.trim() ? query : chatting() ? conversation.last : "";
});
const conversation = new Conversation(run, place);
const answers = Object.fromEntries(
  ["steered", "base"].map((name) => [name, new Answer(at(name), (longer) => run([[answers[name], longer]]))]),
);
const examples = new Examples((query) => {
  at("query").value = query;
  send();
});
let bundle; // whose examples are shown
let limits = { maxTokens: 256, context: 0 };
let started; // settles when the models are known
let running = null; // AbortController of the answers that are being written

const chatting = () => at("chat-mode").checked;

async function start() {
  try {
    const [found, offered] = await Promise.all([models(), formats()]);
    const [model] = found;
    const steers = found.some((each) => each.steering);
    limits = { maxTokens: model.max_tokens, context: model.n_ctx };
    at("served").textContent = model.target;
    at("longest").max = limits.maxTokens;
    at("longest").value = Math.min(at("longest").valueAsNumber || limits.maxTokens, limits.maxTokens);
    controls.serve(found);
    format.serve(offered);
    at("unlock").hidden = true;
    place();
    tell(steers ? "" : "This server has no bundle, so there is nothing to steer by; start it with -g BUNDLE.");
  } catch (error) {
    explain([error]);
  }
}

/** Answer what was typed: in two columns, or as the next turn of the conversation. */
async function send() {
  await started;
  const query = at("query").value;
  const fields = query.trim() ? format.fields : null;
  if (!query.trim()) {
    at("status").textContent = "Type something first.";
    at("query").focus();
  }
  if (!fields) return;
  const settings = { steering: controls.steering, maxTokens: longest(), format: fields, limits };
  if (chatting()) {
    if (running) return stop();
    at("query").value = "";
    if (!(await conversation.ask(query, settings)) && !at("query").value) at("query").value = query;
  } else {
    const messages = [{ role: "user", content: query }];
    const pairs = [[answers.base, { ...settings, steering: false, messages }]];
    if (controls.whole) pairs.unshift([answers.steered, { ...settings, messages }]); // first, if the server has one slot
    await run(pairs);
  }
}

/** Show answers to requests, in place of those that are being written; their errors. */
async function run(pairs) {
  running?.abort();
  const current = (running = new AbortController());
  tell("");
  standing("Answering…", true);
  norms.look(); // first, since it is quick and the answers are not
  if (!chatting()) pairs[0][0].reveal();
  const shown = pairs.map(([answer, request]) => answer.show(request, current.signal));
  const errors = (await Promise.allSettled(shown)).flatMap((each) => each.reason ?? []);
  if (current !== running) return errors; // another query came meanwhile
  running = null;
  standing(current.signal.aborted ? "Stopped." : errors.length ? "" : "Done.", false);
  explain(errors);
  return errors;
}

function stop() {
  running?.abort();
}

/** Tokens that an answer may have; a number that this server does not write is changed, which is said. */
function longest() {
  const typed = at("longest").valueAsNumber;
  const set = Math.min(Math.max(Math.round(typed) || limits.maxTokens, 1), limits.maxTokens);
  at("longest").value = set;
  if (typed !== set) {
    const why = typed > set ? ", the most that this server writes" : "";
    at("longest-note").textContent = `Set to ${grouped(set)}${why}.`;
  }
  return set;
}

/** What went wrong, in words; a key that is missing can be typed at once. */
function explain(errors) {
  const ours = errors.filter((error) => error.name !== "AbortError");
  const strange = ours.find((error) => !(error instanceof Refused));
  if (strange) console.error(strange);
  if (ours.some((error) => error.status === 401)) {
    at("unlock").hidden = false;
    at("key").focus();
  }
  tell([...new Set(ours.map((error) => error.message))].join(" "));
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

/** One button sends and, while answers are written, another in its place stops them; the focus stays on it. */
function standing(text, busy) {
  const [gone, here] = busy ? [at("send"), at("stop")] : [at("stop"), at("send")];
  const focused = document.activeElement === gone;
  at("status").textContent = text;
  document.body.classList.toggle("answering", busy);
  here.hidden = false;
  gone.hidden = true;
  if (focused) here.focus();
}

/** Show the parts of the chosen mode. */
function place() {
  const words = WORDS[chatting() ? "chat" : "compare"];
  at("query-label").textContent = words.label;
  at("send").textContent = words.send;
  at("query").placeholder = words.hint;
  at("answers").hidden = chatting();
  at("log").hidden = at("clear").hidden = !chatting() || conversation.empty;
  at("examples").classList.toggle("unused", chatting() && !conversation.empty);
  at("steered").hidden = !controls.whole;
  history.replaceState(null, "", chatting() ? "#chat" : "#");
  norms.later();
}

at("modes").addEventListener("change", () => {
  stop();
  place();
});
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
at("query").addEventListener("input", () => norms.later());
at("query").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
at("longest").addEventListener("input", () => (at("longest-note").textContent = ""));
at("longest").addEventListener("change", longest);
at("stop").addEventListener("click", stop);
at("clear").addEventListener("click", () => {
  stop();
  conversation.clear();
  at("query").focus();
});
at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  started = start();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
at("chat-mode").checked = location.hash === "#chat";
started = start();
