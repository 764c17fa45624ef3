// The page: queries, their answers with and without steering, and the vector between them.

import { Answer } from "./answer.js";
import { models, Refused, useKey } from "./api.js";
import { Composer } from "./composer.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { at } from "./dom.js";
import { Examples } from "./examples.js";
import { Format } from "./format.js";
import { Instruction } from "./instruction.js";
import { Norms } from "./norms.js";

const composer = new Composer({ send, stop, changed: () => norms.later() });
const format = new Format(() => controls.labels);
const instruction = new Instruction(
  () => controls.instructions,
  () => norms.later(),
);
const controls = new Controls(() => {
  norms.later();
  if (bundle !== controls.bundle) {
    examples.show((bundle = controls.bundle));
    instruction.place();
  }
});
const norms = new Norms(controls, instruction, () => (composer.query.trim() || !chatting() ? composer.query : conversation.last));
const conversation = new Conversation(run, place);
const [steered, base] = ["steered", "base"].map((name) => {
  const answer = new Answer(at(name), (longer) => run([[answer, longer]]));
  return answer;
});
const examples = new Examples((query) => {
  composer.query = query;
  send();
});
let bundle; // whose examples are shown
let limits = { maxTokens: 256, context: 0 };
let started; // settles when the models are known
let running = null; // AbortController of the answers that are being written

const chatting = () => at("chat-mode").checked;

async function start() {
  try {
    const found = await models();
    const [model] = found;
    limits = { maxTokens: model.max_tokens, context: model.n_ctx };
    at("served").textContent = model.target;
    composer.serve(limits.maxTokens);
    controls.serve(found);
    format.place();
    at("unlock").hidden = true;
    place();
    tell(controls.whole ? "" : "This server has no bundle, so there is nothing to steer by; start it with -g BUNDLE.");
  } catch (error) {
    explain([error]);
  }
}

/** Answer what was typed: in two columns, or as the next turn of the conversation. */
async function send() {
  await started;
  const { query } = composer;
  if (!query.trim()) {
    composer.say("Type something first.");
    composer.focus();
    return;
  }
  if (chatting() && running) {
    composer.say("Answering… Stop this answer to send the next message.");
    return;
  }
  const fields = format.fields;
  if (!fields) return;
  const steering = instruction.with(controls.steering, controls.whole);
  const settings = { steering, maxTokens: composer.maxTokens, format: fields, limits };
  if (chatting()) {
    composer.query = "";
    if (!(await conversation.ask(query, settings)) && !composer.query) composer.query = query;
  } else {
    const messages = [{ role: "user", content: query }];
    const unsteered = instruction.with(false, controls.whole);
    const pairs = [[base, { ...settings, steering: unsteered, messages }]];
    if (controls.whole) pairs.unshift([steered, { ...settings, messages }]); // first, if the server has one slot
    await run(pairs);
  }
}

/** Show answers to requests, in place of those that are being written; their errors. */
async function run(pairs) {
  running?.abort();
  const current = (running = new AbortController());
  tell("");
  composer.say("Answering…");
  composer.busy = true;
  norms.look(); // first, since it is quick and the answers are not
  if (!chatting()) pairs[0][0].reveal();
  const shown = pairs.map(([answer, request]) => answer.show(request, current.signal));
  const errors = (await Promise.allSettled(shown)).flatMap((each) => each.reason ?? []);
  if (current !== running) return errors; // another query came meanwhile
  running = null;
  composer.say(current.signal.aborted ? "Stopped." : errors.length ? "" : "Done.");
  composer.busy = false;
  explain(errors);
  return errors;
}

function stop() {
  running?.abort();
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

/** Show the parts of the chosen mode. */
function place() {
  composer.place(chatting() ? "chat" : "compare");
  at("answers").hidden = chatting();
  at("log").hidden = at("clear").hidden = !chatting() || conversation.empty;
  at("examples").classList.toggle("unused", chatting() && !conversation.empty);
  at("steered").hidden = !controls.whole;
  history.replaceState(null, "", chatting() ? "#chat" : location.pathname);
  norms.later();
}

at("modes").addEventListener("change", () => {
  stop();
  place();
});
at("clear").addEventListener("click", () => {
  stop();
  conversation.clear();
  composer.focus();
});
at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  started = start();
});
at("chat-mode").checked = location.hash === "#chat";
started = start();
