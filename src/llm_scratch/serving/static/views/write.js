// Write: let the model continue the text, token by token, until Stop.

import { isExport, stream } from "../api.js";
import { fill, fixed, h, once, percent } from "../dom.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";
import { settings } from "./next.js";

export const label = "Write";
export const title = "What does it write?";

/** What was written, of which text; the request under way, and where it is shown. */
const written = { text: "", tokens: [], seconds: 0, of: null, running: null, ui: null };

export function reading(data, state) {
  const rows = written.tokens.map(({ text, logprob }, i) => [i, text, Number(Math.exp(logprob).toPrecision(4))]);
  const mean = written.tokens.reduce((sum, { logprob }) => sum - logprob / Math.LN2, 0) / Math.max(1, written.tokens.length);
  return {
    sentence: written.tokens.length
      ? [h("b", {}, `${written.tokens.length} tokens`), written.seconds ? `, ${fixed(written.tokens.length / written.seconds, 0)} a second` : "", `; their mean surprise is ${fixed(mean)} bits.`]
      : "The model continues the text with the samplers of “Next token”. The line under a token is thin where the model was sure.",
    label: "tokens written",
    value: String(written.tokens.length),
    note: "the same from the command line or Python is below the text",
    formula: "Read the text, choose a token from the\ndistribution, append it, repeat.",
    source: "generate",
    table: rows.length ? { columns: ["number", "token", "probability"], rows } : null,
  };
}

/** The samplers of Python's `stream`, whose own temperature is not 1. */
const sampling = (state) => ({ ...settings(state), temperature: state.temperature });

const settingsOf = (state) => [...Object.entries(sampling(state)).filter(([, value]) => value !== null), ["seed", state.seed]];

/** The same by the command line. */
function command(data, state) {
  const quoted = `'${state.text.replaceAll("'", "'\\''")}'`;
  const flags = settingsOf(state).map(([name, value]) => ` --${name.replaceAll("_", "-")} ${value}`);
  return `llm-scratch generate ${data.facts.source} ${quoted}${flags.join("")}`;
}

/** The same in Python, whose strings are written as JSON's. */
function program(data, state) {
  const given = settingsOf(state).map(([name, value]) => `, ${name}=${value}`);
  return `from llm_scratch import load, stream\n\nmodel, tokenizer = load(${JSON.stringify(data.facts.source)})\nfor text in stream(model, tokenizer, ${JSON.stringify(state.text)}${given.join("")}):\n    print(text, end="")`;
}

function build(el) {
  const story = h("p", { class: "story", tabindex: "0", "aria-label": "Text and continuation" });
  const start = h("button", { type: "button", class: "primary" }, "Write");
  const keep = h("button", { type: "button" }, "Keep as the text");
  const error = h("p", { role: "alert" });
  const announce = h("p", { class: "unseen", "aria-live": "polite" });
  const same = h("section", { "aria-label": "The same elsewhere", style: { "margin-top": "2rem" } });
  fill(el, h("div", { class: "controls" }, start, keep, h("span", { class: "muted" }, "Esc stops it")), error, story, announce, same);
  return { story, start, keep, error, announce, same };
}

export function render(el, data, state) {
  shadeChips(null);
  const ui = once(el, () => build(el));
  if (written.of !== state.text) {
    written.running?.abort();
    Object.assign(written, { text: "", tokens: [], seconds: 0, of: state.text, running: null });
  }
  written.ui = ui;
  show(ui, state);
  const lines = [["The same from the command line", command(data, state)], ["In Python", program(data, state)]];
  fill(ui.same, lines.map(([title, text]) => [h("h2", { style: { "margin-top": "1rem" } }, title), h("pre", { class: "command" }, text)]));
  ui.start.disabled = isExport();
  ui.start.onclick = () => (written.running ? written.running.abort() : run(state));
  ui.keep.onclick = () => state.set({ text: state.text + written.text });
}

function show(ui, state) {
  fill(ui.story, state.text, written.tokens.map(({ text, logprob }) => h("span", { class: "new", title: percent(Math.exp(logprob)), style: { "text-decoration-thickness": `${Math.min(6, 1 - logprob)}px` } }, text)));
  ui.start.textContent = written.running ? "Stop" : "Write";
  ui.start.toggleAttribute("data-stop", Boolean(written.running));
  ui.keep.disabled = !written.tokens.length;
}

async function run(state) {
  const controller = new AbortController();
  Object.assign(written, { text: "", tokens: [], seconds: 0, running: controller });
  written.ui.error.textContent = "";
  const began = performance.now();
  let sentence = "";
  try {
    const body = { ...about(state), seed: state.seed, max_tokens: 160 };
    for (const [name, value] of Object.entries(sampling(state))) if (value !== null) body[name] = value;
    for await (const event of stream("complete", body, controller.signal)) {
      if (written.running !== controller) return; // of another text
      if (event.error) throw new Error(event.error.message);
      if (!event.text) continue;
      written.text += event.text;
      written.tokens.push(event);
      sentence += event.text;
      if (/[.!?]["”]?$/.test(sentence)) (written.ui.announce.textContent = sentence), (sentence = "");
      show(written.ui, state);
    }
  } catch (error) {
    if (error.name !== "AbortError") written.ui.error.textContent = error.message;
  }
  if (written.running !== controller) return;
  written.seconds = (performance.now() - began) / 1000;
  written.running = null;
  show(written.ui, state);
  state.set({ seed: state.seed + 1 });
}
