// Lenses: what the model would say if it stopped at each layer.

import { cividis, css, inkOn } from "../colors.js";
import { choices, fill, fixed, h, percent, token, visible } from "../dom.js";
import { legend } from "../matrix.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Lenses";
export const title = "What would it say if it stopped here?";

const LENSES = [["norm", "logit lens"], ["raw", "without the final norm"], ["jacobian", "Jacobian lens"]];
const SHADES = [["probability", "its probability"], ["target", "probability of the text's token"], ["kl", "distance to the end"]];
const FORMULAS = {
  norm: "softmax(output head(final norm(stream after the layer)))",
  raw: "softmax(output head(stream after the layer))",
  jacobian: "softmax(output head(final norm(J · stream)))\nJ = mean of d final stream / d stream of the layer,\nover this run's own texts",
};

/** The lens of the state, or the logit lens where the model has no such lens. */
const lensOf = (state, facts) => (facts.lenses.includes(state.lens) ? state.lens : "norm");

export function needs(state, facts) {
  const body = { ...about(state), kind: lensOf(state, facts) };
  const layer = state.lensLayer < 0 ? facts.layers : Math.min(facts.layers, state.lensLayer);
  return { lens: ["lens", body], cell: ["lens-cell", { ...body, layer, position: state.token }] };
}

const layerOf = (data, state) => (state.lensLayer < 0 ? data.facts.layers : Math.min(data.facts.layers, state.lensLayer));
const layerName = (layer, last) => (layer === 0 ? "before layer 0" : layer === last ? `after layer ${layer - 1}: the end` : `after layer ${layer - 1}`);

export function reading(data, state) {
  const { lens, facts } = data;
  const layer = layerOf(data, state);
  const at = state.token;
  const settled = lens.token.findIndex((row, i) => lens.token.slice(i).every((later) => later[at] === lens.token[facts.layers][at]));
  const rows = lens.token.flatMap((row, l) => row.map((_, t) => [l, t, lens.text[l][t], lens.probability[l][t], lens.target[l][t], lens.rank[l][t], lens.kl_bits[l][t]]));
  return {
    sentence: [
      "After ", token(data.inspect.tokens[at].text), ", stopped ", h("b", {}, layerName(layer, facts.layers)), ", it would say ", token(lens.text[layer][at]), " with ", h("b", {}, percent(lens.probability[layer][at])),
      ". Its final word is settled ", h("b", {}, layerName(settled, facts.layers)), ".",
    ],
    label: `probability of ${visible(lens.text[layer][at])}, ${layerName(layer, facts.layers)}`,
    value: percent(lens.probability[layer][at]),
    note: `${fixed(lens.kl_bits[layer][at])} bits from the final prediction${at < data.inspect.tokens.length - 1 ? `; the text's own token has rank ${lens.rank[layer][at]}` : ""}`,
    formula: FORMULAS[lensOf(state, facts)],
    source: lensOf(state, facts) === "jacobian" ? "jacobian_lens" : "logit_lens",
    table: { columns: ["layer", "position", "token", "probability", "of the text's token", "rank", "KL in bits"], rows },
  };
}

const shadeOf = ({ lens }, state, layer, at) =>
  state.shade === "kl" ? 1 - Math.min(1, lens.kl_bits[layer][at] / 8) : state.shade === "target" ? lens.target[layer][at] : lens.probability[layer][at];

export function render(el, data, state) {
  shadeChips(null);
  const { lens, facts, inspect } = data;
  const hadFocus = el.querySelector("table")?.contains(document.activeElement);
  const layer = layerOf(data, state);
  const start = el.querySelector(".scroller")?.scrollLeft ?? 0;
  const cells = lens.token.map((row, l) =>
    row.map((_, at) => {
      const color = cividis(shadeOf(data, state, l, at));
      const chosen = l === layer && at === state.token;
      return h(
        "td",
        {
          role: "gridcell",
          tabindex: chosen ? "0" : "-1",
          "aria-selected": String(chosen),
          title: `${visible(lens.text[l][at])} ${percent(lens.probability[l][at])}`,
          style: { background: css(color), color: inkOn(color) },
          onclick: () => state.set({ token: at, lensLayer: l, candidate: lens.token[l][at] }),
        },
        visible(lens.text[l][at]),
      );
    }),
  );
  const onkeydown = (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -inspect.tokens.length], End: [0, inspect.tokens.length] };
    if (event.key === "Enter") state.set({ candidate: lens.token[layer][state.token] });
    else if (moves[event.key]) {
      const [down, across] = moves[event.key];
      const keep = (value, last) => Math.min(last, Math.max(0, value));
      state.set({ lensLayer: keep(layer + down, facts.layers), token: keep(state.token + across, inspect.tokens.length - 1) });
    } else return;
    event.preventDefault();
  };
  fill(
    el,
    h(
      "div",
      { class: "controls" },
      choices("Lens", LENSES.filter(([name]) => facts.lenses.includes(name)), lensOf(state, facts), (lens) => state.set({ lens })),
      h("label", {}, "shade", h("select", { onchange: (event) => state.set({ shade: event.target.value }) }, SHADES.map(([value, text]) => h("option", { value, selected: value === state.shade }, text)))),
    ),
    h(
      "div",
      { class: "scroller", onkeydown },
      h(
        "table",
        { class: "lens", role: "grid", "aria-label": "Predictions by layer and position" },
        h("thead", {}, h("tr", {}, h("th", { class: "corner" }), inspect.tokens.map((each, i) => h("th", { scope: "col", "aria-selected": i === state.token ? "true" : null }, i < inspect.n_start ? "▸" : visible(each.text))))),
        h("tbody", {}, cells.map((row, l) => h("tr", {}, h("th", { scope: "row" }, layerName(l, facts.layers).replace("after layer ", "after ").replace("before layer 0", "at the start").replace(": the end", ", the end")), row))),
      ),
    ),
    legend(state.shade === "kl" ? "8 bits apart" : "0 %", state.shade === "kl" ? "equal" : "100 %", false),
    h("h2", { style: { "margin-top": "1.5rem" } }, `Most likely ${layerName(layer, facts.layers)}`),
    h("div", { class: "bars", style: { "max-width": "34rem", "margin-top": "0.5rem" } }, data.cell.top.slice(0, 12).map((row) => bar(row, state))),
  );
  const scroller = el.querySelector(".scroller");
  const chosen = el.querySelector("td[aria-selected=true]");
  scroller.scrollLeft = start;
  const left = chosen.offsetLeft - 120;
  if (left < start || chosen.offsetLeft + chosen.offsetWidth > start + scroller.clientWidth) scroller.scrollLeft = chosen.offsetLeft - scroller.clientWidth / 2;
  if (hadFocus) chosen.focus({ preventScroll: true });
}

function bar({ id, text, probability }, state) {
  return h(
    "button",
    { type: "button", class: "row", "aria-pressed": String(id === state.candidate), onclick: () => state.set({ candidate: id }) },
    token(text),
    h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * probability}%` } })),
    h("span", { class: "number" }, percent(probability)),
  );
}
