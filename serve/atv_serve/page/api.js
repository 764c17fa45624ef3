// Requests to the server and its answers.

const KEY_ITEM = "atv-local key";
const NAMES = { "response_format.json_schema.schema": "the schema" };

/** The server refused a request, with the error's status and code, or did not respond. */
export class Refused extends Error {
  constructor(message, status = 0, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY_ITEM, key);

/** The models: one for each bundle, and the base model. */
export async function models(signal) {
  return (await (await ask("/v1/models", undefined, signal)).json()).data;
}

/** What would be added for a query: {steering, norms}, a norm for each layer from the first on. */
export async function norms(query, steering, signal) {
  return (await ask("/v1/steering", { query, steering }, signal)).json();
}

/** The chunks of an answer as they come; the last one has the usage. `format` has further fields of the request. */
export async function* chat({ messages, steering, maxTokens, format }, signal) {
  const stream = { stream: true, stream_options: { include_usage: true } };
  const body = { messages, steering, max_tokens: maxTokens, ...stream, ...format };
  const response = await ask("/v1/chat/completions", body, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(sentence(chunk.error.message));
    yield chunk;
  }
  throw new Refused("The server closed the connection before the answer was complete.");
}

async function ask(path, body, signal) {
  const headers = {};
  const key = sessionStorage.getItem(KEY_ITEM);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  const request = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  const response = await fetch(path, request).catch(unreachable);
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The data of server-sent events. A character may be divided between two pieces, and so may a line. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(unreachable);
      if (done) return;
      const lines = (text + value).split("\n");
      text = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function refusal(response) {
  const { status } = response;
  const { message, code, param } = (await response.json().catch(() => null))?.error ?? {};
  const wait = response.headers.get("retry-after");
  if (status === 429) return new Refused(`The server is busy. Try again in ${wait ?? "a few"} seconds.`, status, code);
  if (status === 503) return new Refused("The server is stopping. Start it again, then send this again.", status, code);
  const plain = message?.replace(`\`${param}\``, NAMES[param] ?? "$&"); // a field is named as on the page
  return new Refused(sentence(plain ?? `the server answered with status ${status}`), status, code);
}

function unreachable(error) {
  if (error.name === "AbortError") throw error;
  throw new Refused("The server cannot be reached; is atv-local serve still running?");
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
