// Attention: all heads at once, and one of them large.

import { back, choices, decode, fill, fixed, h, once, percent, token, visible } from "../dom.js";
import { Matrix, legend, thumbnail } from "../matrix.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Attention";
export const title = "Where does it look?";

const SORTS = { layer: "by layer", previous: "by previous token", induction: "by induction", duplicate: "by duplicate", first: "by first token", name: "by the skill “name”" };
const THUMBNAIL_PIXELS = 72;
const MAX_WIDTH = 640;
const MIN_WIDTH = 380;
const GAP = 40;

export function needs(state, facts) {
  const found = Object.fromEntries(Array.from({ length: facts.layers }, (_, layer) => [`layer${layer}`, ["attention", { ...about(state), layer }]]));
  const key = state.key;
  if (key >= 0) found.dot = ["dot", { ...about(state), layer: state.layer, head: state.head, query: state.token, key }, "optional"];
  if (state.sort === "name") found.skills = ["head-skills", state.step >= 0 ? { step: state.step } : {}];
  return found;
}

/** The weights of one head, [T, T] in bytes. */
function pattern(data, layer, head) {
  const answer = data[`layer${layer}`].pattern;
  answer.bytes ??= decode(answer);
  const size = data.inspect.tokens.length;
  return answer.bytes.subarray(head * size * size, (head + 1) * size * size);
}

const everyHead = (facts) => facts.heads.flatMap((count, layer) => Array.from({ length: count }, (_, head) => ({ layer, head, part: `${layer}.${head}` })));

/** The weights that the matrix shows: of one head, or of all heads the largest, cell by cell. */
function weights(data, state) {
  if (state.heads !== "all") return pattern(data, state.layer, state.head);
  const all = data.layer0;
  if (!all.largest) {
    all.largest = new Uint8Array(data.inspect.tokens.length ** 2);
    for (const { layer, head } of everyHead(data.facts)) pattern(data, layer, head).forEach((value, i) => (all.largest[i] = Math.max(all.largest[i], value)));
  }
  return all.largest;
}

/** The head whose weight is shown in a cell. */
function headAt(data, state, row, col) {
  const at = row * data.inspect.tokens.length + col;
  const value = weights(data, state)[at];
  return state.heads === "all" ? everyHead(data.facts).find(({ layer, head }) => pattern(data, layer, head)[at] === value) : state;
}

/** The key that a query looks at most. */
function strongest(values, size, query) {
  let best = 0;
  for (let key = 0; key <= query; key++) if (values[query * size + key] > values[query * size + best]) best = key;
  return best;
}

const shown = (data, i) => (i < data.inspect.n_start ? "start" : data.inspect.tokens[i].text);

export function reading(data, state) {
  const size = data.inspect.tokens.length;
  const values = weights(data, state);
  const query = state.token;
  const key = state.key >= 0 ? state.key : strongest(values, size, query);
  const weight = values[query * size + key] / 255;
  const { layer, head } = headAt(data, state, query, key);
  const rows = Array.from({ length: query + 1 }, (_, i) => [i, shown(data, i), Number((values[query * size + i] / 2.55).toFixed(1))]);
  return {
    sentence: [
      state.heads === "all" ? "Of all heads, " : "Head ", h("b", {}, `${layer}.${head}`), " at ", token(shown(data, query)), " looks ", h("b", {}, percent(weight)), " at ", token(shown(data, key)),
      key === query ? ", itself." : `, ${back(query - key)}.`,
    ],
    label: `attention weight of head ${layer}.${head}`,
    value: percent(weight),
    note: `query ${visible(shown(data, query))} (${query}), key ${visible(shown(data, key))} (${key})`,
    formula: "weight = softmax over keys of\n  query · key / √head size\n\nHead 1.2 is head 2 of layer 1; both count from 0. A row sums to 100 %.",
    source: "attention",
    table: { columns: ["key", "token", "weight in %"], rows },
  };
}

function build(el) {
  const heads = h("div", { class: "heads" });
  const controls = h("div", { class: "controls" });
  const box = h("div", {});
  const note = h("p", { class: "small muted" });
  const detail = h("div", { class: "detail" });
  const actions = {};
  const matrix = new Matrix("Attention weights: rows are queries, the tokens that attend; columns are keys, the tokens attended to", {
    onhover: (row, col) => actions.hover(row, col),
    onpick: (row, col) => actions.pick(row, col),
    describe: (row, col) => actions.describe(row, col),
  });
  fill(box, h("p", { class: "axis" }, "down: query, the token asking · across: key, the token looked at"), matrix.el, legend(), note);
  fill(el, controls, h("div", { class: "columns" }, h("div", {}, heads, detail), box));
  return { heads, controls, matrix, note, detail, actions, box };
}

export function render(el, data, state) {
  const ui = once(el, () => build(el));
  const { facts, inspect } = data;
  const size = inspect.tokens.length;
  const values = weights(data, state);
  const sums = data[`layer${state.layer}`].sums[state.head];
  const key = state.key >= 0 ? state.key : strongest(values, size, state.token);
  fill(
    ui.controls,
    h("label", {}, "heads", h("select", { onchange: (event) => state.set({ sort: event.target.value }) }, options(SORTS, state.sort, facts))),
    h("label", {}, "matrix", choices("Matrix", [["one", "this head"], ["all", "largest of all"]], state.heads, (heads) => state.set({ heads }))),
    h("label", {}, "shade the text by", choices("Direction", [["query", "what it looks at"], ["key", "who looks at it"]], state.from, (from) => state.set({ from }))),
  );
  renderHeads(ui.heads, data, state);
  renderDetail(ui.detail, data.dot, state, key);
  ui.detail.append(question(data, state));
  ui.actions.pick = (row, col) => {
    const { layer, head } = headAt(data, state, row, col);
    state.set({ token: row, key: col, layer, head });
  };
  ui.actions.describe = (row, col) => `${shown(data, row)} looks ${percent(values[row * size + col] / 255)} at ${shown(data, col)}`;
  ui.actions.hover = (row, col) => {
    fill(ui.note, token(shown(data, row)), ` looks ${percent(values[row * size + col] / 255)} at `, token(shown(data, col)), state.heads === "all" ? `, head ${headAt(data, state, row, col).part}` : `; its row sums to ${percent(sums[row])}`);
    shade(values, size, state.from === "query" ? row : col, state.from);
  };
  const labels = inspect.tokens.map((each, i) => (i < inspect.n_start ? "▸" : each.text));
  const beside = el.clientWidth - ui.heads.parentElement.offsetWidth - GAP; // where there is no room beside the heads, below them
  const width = Math.min(MAX_WIDTH, beside >= MIN_WIDTH ? beside : el.clientWidth);
  ui.box.style.maxWidth = `${width}px`;
  ui.matrix.show({ values, tokens: labels, row: state.token, col: key, width });
  ui.actions.hover(state.token, key);
}

const options = (sorts, chosen, facts) =>
  Object.entries(sorts).filter(([name]) => name !== "name" || facts.stories).map(([value, text]) => h("option", { value, selected: value === chosen }, text));

function shade(values, size, at, from) {
  shadeChips(Array.from({ length: size }, (_, i) => (from === "query" ? (i <= at ? values[at * size + i] : 0) : i >= at ? values[i * size + at] : 0) / 255));
}

/** The heads in their order, each with the score that orders them. */
function ranked(data, state) {
  const heads = everyHead(data.facts);
  if (state.sort === "layer") return heads;
  const changes = state.sort === "name" ? data.skills.changes.filter((change) => change.skill === "name") : [];
  for (const each of heads) {
    const change = changes.find(({ part }) => part === each.part);
    each.score = state.sort === "name" ? (change ? change.ablated - change.accuracy : 0) : data.inspect.head_scores[state.sort]?.[each.layer][each.head];
    each.text = state.sort === "name" ? `${fixed(100 * each.score, 0)}` : percent(each.score);
  }
  return heads.sort((a, b) => (state.sort === "name" ? a.score - b.score : b.score - a.score));
}

function renderHeads(el, data, state) {
  const size = data.inspect.tokens.length;
  const columns = state.sort === "layer" ? Math.min(8, Math.max(...data.facts.heads)) : 4;
  const focused = el.contains(document.activeElement) ? document.activeElement.dataset.part : null;
  el.style.gridTemplateColumns = `repeat(${columns}, max-content)`;
  fill(
    el,
    ranked(data, state).map(({ layer, head, part, text }) => {
      const canvas = h("canvas", { "aria-hidden": "true", style: { width: `${THUMBNAIL_PIXELS}px`, height: `${THUMBNAIL_PIXELS}px`, "image-rendering": "pixelated" } });
      thumbnail(canvas, pattern(data, layer, head), size);
      const chosen = layer === state.layer && head === state.head;
      const off = state.without.includes(part);
      return h(
        "button",
        { type: "button", class: off ? "off" : null, "data-part": part, "aria-pressed": String(chosen), "aria-label": `head ${part}${off ? ", switched off" : ""}`, onclick: () => state.set({ layer, head, key: -1 }) },
        canvas,
        h("span", { class: "name" }, h("span", {}, part), h("span", {}, off ? "off" : text ?? "")),
      );
    }),
  );
  if (focused) el.querySelector(`[data-part="${focused}"]`)?.focus();
}

/** What to try next: the same head, switched off. */
function question(data, state) {
  const part = `${state.layer}.${state.head}`;
  const go = () => state.set({ view: "whatif", without: [...new Set([...state.without, part])].sort() });
  return h("p", { class: "small try" }, h("button", { type: "button", "data-try": "", onclick: go }, "Is ", token(data.name), ` still predicted without head ${part}?`));
}

/** Query and key, their product, the scale, the softmax: the numbers of one cell. */
function renderDetail(el, dot, state, key) {
  if (!dot) {
    fill(el, h("p", { class: "small muted" }, "Pick a cell to see how its number is computed."), h("p", { class: "small" }, h("button", { type: "button", onclick: () => state.set({ key }) }, "Show this cell's numbers")));
    return;
  }
  const exponentials = dot.scores.reduce((sum, score) => sum + Math.exp(score), 0);
  const largest = dot.products.map((value, i) => [value, i]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, 6);
  fill(
    el,
    h("h2", {}, "How this number is computed"),
    h(
      "table",
      {},
      [
        ["query · key", `${fixed(dot.dot, 3)}`, `sum of ${dot.products.length} products`],
        ["× scale", fixed(dot.scale, 4), `1 / √${dot.products.length}`],
        ["= score", fixed(dot.score, 3), "later tokens are masked"],
        ["e^score", fixed(Math.exp(dot.score), 3), ""],
        ["÷ sum of the row", fixed(exponentials, 3), `${dot.scores.length} keys`],
        ["= weight", percent(dot.weights[state.key]), "softmax"],
      ].map(([name, value, why]) => h("tr", {}, h("td", {}, name), h("td", { class: "number" }, value), h("td", { class: "muted" }, why))),
    ),
    h("p", { class: "small muted" }, "largest products: "),
    h("p", { class: "small mono" }, largest.map(([value, i]) => `q${i}·k${i} = ${fixed(dot.q[i])} × ${fixed(dot.k[i])} = ${fixed(value)}\n`).map((line) => h("span", {}, line, h("br")))),
  );
}
