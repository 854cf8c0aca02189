// Requests to the server, or to the answers that an exported page carries.

const answers = new Map();
const MAX_ANSWERS = 200;
const listeners = new Set();

/** Call a function with true when the server answers again, and with a message when it does not. */
export const onConnection = (listener) => listeners.add(listener);
const report = (status) => listeners.forEach((listener) => listener(status));

/** Whether the page was exported, and has no server. */
export const isExport = () => globalThis.RECORDED !== undefined;

/** Whether the page is in a notebook, whose kernel answers: `ASK` is set by notebook.js. */
export const isInNotebook = () => globalThis.ASK !== undefined;

/** The name of a request: the same for equal bodies, whatever the order of their fields. */
export function nameOf(path, body) {
  return `${path} ${JSON.stringify(body, Object.keys(body).sort())}`;
}

/** Send a request to the server; equal requests are sent once. Throws an Error with the server's message. */
export function request(path, body = {}) {
  const name = nameOf(path, body);
  if (!answers.has(name)) {
    const answer = isExport() ? recorded(name) : isInNotebook() ? globalThis.ASK(path, body) : post(path, body);
    answers.set(name, answer);
    answer.catch(() => answers.delete(name));
    if (answers.size > MAX_ANSWERS) answers.delete(answers.keys().next().value);
  }
  return answers.get(name);
}

async function recorded(name) {
  const answer = globalThis.RECORDED[name];
  if (answer === undefined) throw new Error("This page was exported and has no model. To try your own text: llm-scratch play RUN");
  return answer;
}

async function post(path, body, signal) {
  const answer = await send(path, body, signal);
  return answer.json();
}

async function send(path, body, signal) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name !== "AbortError") report("The server does not answer. Your text is kept; start it again with: llm-scratch play RUN");
    throw error;
  }
  if (answer.status === 401) report("The server was started again. Open the address that it printed; your text is kept.");
  else report(true);
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({ error: { message: `status ${answer.status}` } }));
    throw new Error(error.message);
  }
  return answer;
}

/** Read the events of a stream one by one. */
export async function* stream(path, body, signal) {
  if (isInNotebook()) {
    yield* await globalThis.ASK(path, body);
    return;
  }
  const answer = await send(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) yield JSON.parse(event.replace(/^data: /, ""));
  }
}

/** Check from time to time whether the server responds. */
export function watch(seconds = 1) {
  if (isExport() || isInNotebook()) return;
  setInterval(() => post("ping", {}).catch(() => {}), 1000 * seconds);
}
