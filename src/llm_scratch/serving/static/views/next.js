// Next token: the distribution, and what each sampler makes of it, computed here from the logits.

import { choices, decode, fill, fixed, h, once, percent, token, visible } from "../dom.js";
import { bestFirst, draw, processLogits, softmax } from "../sampler.js";
import { request } from "../api.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Next token";
export const title = "What comes next, and why?";

const ROWS = 20;
const HEATS = [["", "nothing"], ["bits", "surprise"], ["entropy", "entropy"]];
/** Bits at which a token has the whole shade. */
const FULL_SHADE = 8;
/** name: its label, slider position (0 to 1) -> value, its inverse, and the words shown; top-k gets its curve in `render`. */
const SLIDERS = {
  temperature: { label: "temperature", to: (x) => (x <= 0.5 ? 4 * x : 2 + 3 * ((x - 0.5) / 0.5) ** 1.5), from: (v) => (v <= 2 ? v / 4 : 0.5 + 0.5 * ((v - 2) / 3) ** (2 / 3)), show: (v) => fixed(v) },
  top_k: { label: "top-k", show: (v) => (v ? String(v) : "off") },
  top_p: { label: "top-p", to: (x) => 1 - x, from: (v) => 1 - v, show: (v) => (v < 1 ? fixed(v) : "off") },
  min_p: { label: "min-p", to: (x) => x ** 2, from: (v) => Math.sqrt(v), show: (v) => (v ? fixed(v, 3) : "off") },
  typical_p: { label: "typical-p", to: (x) => 1 - x, from: (v) => 1 - v, show: (v) => (v < 1 ? fixed(v) : "off") },
  repetition_penalty: { label: "repetition penalty", to: (x) => 1 + x, from: (v) => v - 1, show: (v) => (v === 1 ? "off" : fixed(v)) },
};
const round = (value) => Math.round(1000 * value) / 1000;

/** The samplers that are set, by the names that Python has. */
export function settings(state) {
  return {
    temperature: state.temperature === 1 ? null : state.temperature,
    top_k: state.top_k || null,
    top_p: state.top_p < 1 ? state.top_p : null,
    min_p: state.min_p || null,
    typical_p: state.typical_p < 1 ? state.typical_p : null,
    repetition_penalty: state.repetition_penalty === 1 ? null : state.repetition_penalty,
  };
}

function outcome(data, state) {
  const before = softmax(data.logits);
  const ids = data.inspect.tokens.slice(0, state.token + 1).map(({ id }) => id);
  const { logits, cutBy } = processLogits(data.logits, settings(state), ids);
  const after = softmax(logits);
  return { before, after, cutBy, order: bestFirst(data.logits) };
}

const entropy = (shares) => shares.reduce((sum, share) => sum - (share > 0 ? share * Math.log2(share) : 0), 0);

export function reading(data, state) {
  const { before, after, cutBy, order } = outcome(data, state);
  const bits = entropy(before);
  const changed = Object.entries(settings(state)).find(([, value]) => value !== null)?.[0];
  const rows = Array.from(order.slice(0, 100), (id) => [id, data.facts.vocabulary[id], Number(before[id].toPrecision(4)), Number(after[id].toPrecision(4)), cutBy.get(id) ?? ""]);
  return {
    sentence: [
      "After ", token(data.inspect.tokens[state.token].text), ", ", token(data.facts.vocabulary[order[0]]), " has ", h("b", {}, percent(before[order[0]])),
      `; the choice is worth ${fixed(bits)} bits, as between ${fixed(2 ** bits, 1)} equally likely tokens.`,
      cutBy.size ? ` The samplers exclude ${cutBy.size} tokens.` : "",
    ],
    label: `probability of ${visible(data.name)}`,
    value: percent(after[state.candidate]),
    note: after[state.candidate] === before[state.candidate] ? `logit ${fixed(data.logits[state.candidate])}` : `${percent(before[state.candidate])} before the samplers; logit ${fixed(data.logits[state.candidate])}`,
    formula: "probability = e^(logit / temperature)\n  ÷ sum over all tokens that are left",
    source: changed ?? "process_logits",
    table: { columns: ["id", "token", "before", "after", "cut by"], rows },
  };
}

function build(el) {
  const bars = h("div", { class: "bars", role: "group", "aria-label": "Most likely tokens" });
  const sliders = h("div", { class: "sliders" });
  const inputs = {};
  const actions = {};
  for (const [name, { label }] of Object.entries(SLIDERS)) {
    const output = h("output");
    const input = h("input", { type: "range", min: "0", max: "1", step: "0.005", "aria-label": label, oninput: () => actions.move(name, Number(input.value)) });
    sliders.append(h("span", {}, label), input, output);
    inputs[name] = { input, output };
  }
  const seed = h("input", { type: "number", min: "0", max: String(2 ** 31 - 1), step: "1", "aria-label": "seed", onchange: () => actions.seed(seed.valueAsNumber) });
  sliders.append(h("span", {}, "seed"), seed, h("output"));
  const buttons = h(
    "p",
    {},
    h("button", { type: "button", class: "primary", onclick: () => actions.draw() }, "Draw a token"),
    " ",
    h("button", { type: "button", onclick: () => actions.best() }, "Take the best"),
    " ",
    h("button", { type: "button", onclick: () => actions.reset() }, "Reset"),
  );
  const hint = h("p", { class: "small muted" }, "A bar picks the token that all views follow. Drawing adds a token to the text.");
  const tree = h("section", { style: { "margin-top": "1.75rem" }, "aria-label": "The next tokens as a tree" });
  const heat = h("div", { style: { "margin-top": "1.25rem" } });
  fill(el, h("div", { class: "columns" }, h("div", { class: "grow" }, bars), h("div", {}, sliders, h("div", { style: { height: "1rem" } }), buttons, hint, heat)), tree);
  return { heat, bars, inputs, seed, actions, tree };
}

export function render(el, data, state) {
  const { heat, bars, inputs, seed, actions, tree } = once(el, () => build(el));
  const V = data.logits.length;
  const curves = { ...SLIDERS, top_k: { ...SLIDERS.top_k, to: (x) => (x === 0 ? 0 : Math.max(1, Math.round(V ** (1 - x)))), from: (v) => (v ? 1 - Math.log(v) / Math.log(V) : 0) } };
  for (const [name, { input, output }] of Object.entries(inputs)) {
    if (document.activeElement !== input) input.value = String(curves[name].from(state[name]));
    output.textContent = curves[name].show(state[name]);
    input.setAttribute("aria-valuetext", output.textContent);
  }
  if (document.activeElement !== seed) seed.value = String(state.seed);
  actions.seed = (value) => state.set({ seed: Number.isFinite(value) ? Math.max(0, Math.round(value)) : 1 });
  actions.move = (name, x) => state.set({ [name]: round(curves[name].to(x)) });
  actions.reset = () => state.set({ temperature: 1, top_k: 0, top_p: 1, min_p: 0, typical_p: 1, repetition_penalty: 1 });
  const { before, after, cutBy, order } = outcome(data, state);
  const add = (id, more = {}) => state.set({ text: textUntil(data, state.token) + data.facts.vocabulary[id], ...more });
  actions.draw = () => add(draw(after, state.seed), { seed: state.seed + 1 });
  actions.best = () => add(order[0]);
  const top = Array.from(order.slice(0, ROWS));
  const rest = top.reduce((sum, id) => sum - before[id], 1);
  const focused = bars.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  fill(
    bars,
    top.map((id) => row(id, data, state, before[id], after[id], cutBy.get(id))),
    h("div", { class: "row muted" }, h("span", {}, `${V - top.length} others`), track(rest, top.reduce((sum, id) => sum - after[id], 1)), h("span", { class: "number" }, percent(Math.max(0, rest)))),
  );
  if (focused) bars.querySelector(`[data-id="${focused}"]`)?.focus();
  showHeat(heat, data, state);
  showTree(tree, data, state);
}

/** The text, shaded by how surprising each token was, or how open the choice after it is. */
function showHeat(el, data, state) {
  const { tokens } = data.inspect;
  shadeChips(state.heat ? tokens.map((each) => Math.min(1, (each[state.heat] ?? 0) / FULL_SHADE)) : null);
  const known = tokens.filter(({ bits }) => bits !== null);
  const mean = known.reduce((sum, { bits }) => sum + bits, 0) / Math.max(1, known.length);
  fill(
    el,
    h("div", { class: "controls" }, h("label", {}, "shade the text by", choices("Shade", HEATS, state.heat, (heat) => state.set({ heat })))),
    h("p", { class: "small muted" }, `Surprise of the text: ${fixed(mean)} bits a token, a perplexity of ${fixed(2 ** mean, 1)}.`),
  );
}

/** Five tokens ahead. The bars do not wait for it: it is drawn when its answer is there. */
async function showTree(el, data, state) {
  const kinds = [["", "none"], ["beam", "beam search"], ["sample", "eight samples"]];
  const head = h("div", { class: "controls" }, h("h2", {}, "The next five tokens"), choices("The next five tokens", kinds, state.tree, (tree) => state.set({ tree })));
  if (!state.tree) return void fill(el, head);
  const set = Object.fromEntries(Object.entries(settings(state)).filter(([, value]) => value !== null));
  const body = { ...about(state), position: state.token, kind: state.tree, ...(state.tree === "sample" ? { ...set, seed: state.seed } : {}) };
  const key = JSON.stringify(body);
  el.dataset.key = key;
  fill(el, head, [...el.children].slice(1)); // the old tree stays until the new one is there
  let drawn;
  try {
    const answer = await request("tree", body);
    const words = state.tree === "beam" ? "Beam search follows the three best texts; of each it tries three tokens. Pale ones are dropped." : "Eight texts drawn with the sliders above; a number says how many go through a token.";
    drawn = [h("p", { class: "small muted" }, words, " A token takes the text up to it."), h("div", { class: "scroller" }, branches(answer.children, textUntil(data, state.token), state))];
  } catch (error) {
    drawn = h("p", { class: "small accent", role: "status" }, error.message);
  }
  if (el.dataset.key === key) fill(el, head, drawn);
}

/** A level of the tree as a list; the branches of a token are to its right. */
function branches(nodes, before, state) {
  if (!nodes.length) return null;
  const number = ({ count, probability }) => (state.tree === "sample" ? String(count) : percent(probability));
  return h(
    "ol",
    { class: "tree" },
    nodes.map((node) =>
      h(
        "li",
        {},
        h("button", { type: "button", class: node.best ? "best" : node.kept ? null : "cut", onclick: () => state.set({ text: before + node.text }) }, token(node.text), h("span", { class: "tiny" }, number(node))),
        branches(node.children, before + node.text, state),
      ),
    ),
  );
}

const track = (before, after) =>
  h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * Math.max(0, after)}%` } }), h("span", { class: "before", style: { width: `${100 * Math.max(0, before)}%` } }));

function row(id, data, state, before, after, cut) {
  return h(
    "button",
    { type: "button", class: cut ? "row cut" : "row", "data-id": String(id), "aria-pressed": String(id === state.candidate), onclick: () => state.set({ candidate: id }) },
    token(data.facts.vocabulary[id]),
    track(before, after),
    h("span", { class: "number" }, cut ? `cut: ${cut.replace("_", "-")}` : percent(after)),
  );
}

const textUntil = (data, position) => data.inspect.tokens.slice(data.inspect.n_start, position + 1).map(({ text }) => text).join("");

/** Append the best token after the end of the text. */
export async function append(state, set, facts) {
  const inspect = await request("inspect", about(state));
  const logits = decode(inspect.logits);
  set({ text: state.text + facts.vocabulary[bestFirst(logits)[0]] });
}
