// Flow: the residual stream, layers down and tokens across, and which part wrote the prediction.

import { css, signed } from "../colors.js";
import { fill, fixed, h, token, visible } from "../dom.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Flow";
export const title = "Who wrote the answer?";

export const needs = (state) => ({ flow: ["flow", { ...about(state), position: state.token, candidate: state.candidate }] });

const nameOf = (part) =>
  part === "embedding" ? "embedding" : part === "bias" ? "bias of the output" : part.endsWith("mlp") ? `feed-forward ${part.split(".")[0]}` : part.endsWith("bias") ? `bias ${part.split(".")[0]}` : `head ${part}`;

/** The rows of the picture: a name, the size of what it adds, and its contribution, for each position. */
function rowsOf({ facts, flow }) {
  const sum = (names) => flow.values[0].map((_, at) => names.reduce((total, name) => total + (flow.values[flow.names.indexOf(name)]?.[at] ?? 0), 0));
  const rows = [{ name: "embedding", sizes: flow.norms["blocks.0.hook_resid_pre"], values: sum(["embedding"]), parts: ["embedding"] }];
  for (let layer = 0; layer < facts.layers; layer++) {
    const heads = flow.names.filter((name) => name.startsWith(`${layer}.`) && !name.endsWith("mlp"));
    rows.push({ name: `attention ${layer}`, sizes: flow.norms[`blocks.${layer}.hook_attn_out`], values: sum(heads), parts: heads });
    if (flow.norms[`blocks.${layer}.hook_mlp_out`]) rows.push({ name: `feed-forward ${layer}`, sizes: flow.norms[`blocks.${layer}.hook_mlp_out`], values: sum([`${layer}.mlp`]), parts: [`${layer}.mlp`] });
  }
  return rows;
}

const contributions = ({ flow }, at) => flow.names.map((name, i) => ({ name, value: flow.values[i][at] }));

export function reading(data, state) {
  const parts = contributions(data, state.token);
  const most = parts.reduce((best, part) => (part.value > best.value ? part : best));
  const total = parts.reduce((sum, part) => sum + part.value, 0);
  return {
    sentence: ["Of the logit ", h("b", {}, fixed(total)), " of ", token(data.name), ", ", h("b", {}, nameOf(most.name)), " wrote ", h("b", {}, fixed(most.value)), "; the rest is the sum of all other parts."],
    label: `logit of ${visible(data.name)}`,
    value: fixed(total),
    note: `${nameOf(most.name)} adds ${fixed(most.value)}`,
    formula: "logit = Σ over parts of\n  (what the part adds × scale of the final norm)\n  · output vector of the token\n\nBoxes: size = length of what is added,\ncolor = its share in the logit of the token\nthat follows; effects through later layers\nare not counted.",
    source: "attribution",
    table: { columns: ["part", "adds to the logit"], rows: parts.map(({ name, value }) => [nameOf(name), value]) },
  };
}

const ROW = 46;
const TOP = 84;
const LEFT = 112;

export function render(el, data, state) {
  shadeChips(null);
  const rows = rowsOf(data);
  const { tokens, n_start } = data.inspect;
  const step = Math.max(14, Math.min(30, (el.clientWidth - LEFT - 20) / tokens.length));
  const largest = Math.max(...rows.flatMap(({ sizes }) => sizes));
  const strongest = Math.max(...rows.flatMap(({ values }) => values.map(Math.abs)));
  const width = LEFT + step * tokens.length + 16;
  const height = TOP + ROW * rows.length + 12;
  const x = (at) => LEFT + step * (at + 0.5);
  const boxes = rows.flatMap(({ name, sizes, values }, r) =>
    sizes.map((size, at) => {
      const side = Math.max(2, Math.min(step - 1, ROW - 8) * Math.sqrt(size / largest));
      return h(
        "rect",
        { x: x(at) - side / 2, y: TOP + ROW * (r + 0.5) - side / 2, width: side, height: side, fill: css(signed(values[at] / strongest)), stroke: "var(--muted)", "stroke-width": 0.5 },
        h("title", {}, `${name} at ${visible(tokens[at].text)}: length ${fixed(size)}, adds ${fixed(values[at])} to ${visible(data.flow.targets[at])}`),
      );
    }),
  );
  const picture = h(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "What each layer adds at each token; the numbers are in the table" },
    rows.map(({ name }, r) => [h("text", { class: "words", x: LEFT - 12, y: TOP + ROW * (r + 0.5) + 4, "text-anchor": "end" }, name), h("line", { class: "hair", x1: LEFT, x2: width - 8, y1: TOP + ROW * (r + 0.5), y2: TOP + ROW * (r + 0.5) })]).flat(),
    h("rect", { x: x(state.token) - step / 2, y: TOP - 4, width: step, height: height - TOP - 4, fill: "none", stroke: "var(--accent)" }),
    boxes,
    tokens.map((each, at) => h("text", { transform: `translate(${x(at) + 4} ${TOP - 10}) rotate(-55)`, style: at === state.token ? { fill: "var(--accent)" } : {} }, at < n_start ? "▸" : visible(each.text).slice(0, 12))),
    tokens.map((_, at) => h("rect", { x: x(at) - step / 2, y: 0, width: step, height, fill: "transparent", style: { cursor: "pointer" }, onclick: () => state.set({ token: at }) })),
  );
  const parts = contributions(data, state.token).sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, 14);
  const range = Math.max(...parts.map(({ value }) => Math.abs(value)));
  const start = el.querySelector(".scroller")?.scrollLeft ?? 0;
  fill(
    el,
    h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Picture of the flow" }, picture),
    h("div", { class: "legend" }, "against the token", h("span", { style: { width: "8rem", height: "0.5rem", background: `linear-gradient(to right, ${css(signed(-1))}, ${css(signed(0))}, ${css(signed(1))})` } }), "for it"),
    h("h2", { style: { "margin-top": "1.5rem" } }, "What adds to the logit of ", token(data.name)),
    h("div", { class: "bars", style: { "max-width": "40rem", "margin-top": "0.5rem" } }, parts.map((part) => bar(part, range, state))),
  );
  const scroller = el.querySelector(".scroller");
  scroller.scrollLeft = start;
  const seen = x(state.token) - start > LEFT && x(state.token) - start < scroller.clientWidth;
  if (!seen) scroller.scrollLeft = x(state.token) - scroller.clientWidth + 3 * step;
}

function bar({ name, value }, range, state) {
  const share = (50 * Math.abs(value)) / range;
  const head = /^(\d+)\.(\d+)$/.exec(name);
  const go = () => head && state.set({ view: "attention", layer: Number(head[1]), head: Number(head[2]), key: -1 });
  return h(
    head ? "button" : "div",
    { class: "row signed", type: head ? "button" : null, onclick: go, title: head ? "see where it looks" : null },
    h("span", { class: "token" }, nameOf(name)),
    h("span", { class: "track" }, h("span", { class: "zero" }), h("span", { class: "fill", style: { left: value < 0 ? `${50 - share}%` : "50%", width: `${share}%`, background: css(signed(Math.sign(value))) } })),
    h("span", { class: "number" }, fixed(value)),
  );
}
