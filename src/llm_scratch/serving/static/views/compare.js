// Compare: two models, or two moments of one, on the same text.

import { decode, fill, fixed, h, percent, token, visible } from "../dom.js";
import { bestFirst, softmax } from "../sampler.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Compare";
export const title = "How do two models differ?";

/** The models that this one can be compared with: [value, words, what the request says]. */
function others(facts) {
  const models = facts.models.slice(1).map((name) => [name, name === "untrained" ? "the same, untrained" : name, { model: name }]);
  const steps = facts.steps.map((step) => [`step ${step}`, `step ${step} of the training`, { step }]);
  return [...models, ...steps];
}

const chosen = (state, facts) => others(facts).find(([value]) => value === state.other) ?? others(facts)[0];

export function needs(state, facts) {
  const body = { text: state.text, ...chosen(state, facts)[2] };
  return { otherInspect: ["inspect", body], otherLogits: ["logits", { ...body, position: state.token }], mine: ["continue", about(state)], other: ["continue", body] };
}

const meanBits = ({ tokens }) => {
  const known = tokens.map(({ bits }) => bits).filter((bits) => bits !== null);
  return known.reduce((sum, bits) => sum + bits, 0) / Math.max(1, known.length);
};

function sides(data, state) {
  const there = softmax(decode(data.otherLogits.logits));
  return { here: softmax(data.logits), there, bits: meanBits(data.inspect), otherBits: meanBits(data.otherInspect) };
}

export function reading(data, state) {
  const { here, there, bits, otherBits } = sides(data, state);
  const name = chosen(state, data.facts)[1];
  const rows = Array.from(bestFirst(data.logits).slice(0, 50), (id) => [data.facts.vocabulary[id], Number(here[id].toPrecision(4)), Number(there[id].toPrecision(4))]);
  return {
    sentence: [token(data.name), " has ", h("b", {}, percent(here[state.candidate])), " here and ", h("b", {}, percent(there[state.candidate])), ` in ${name}. The text surprises by ${fixed(bits)} and ${fixed(otherBits)} bits a token.`],
    label: `difference for ${visible(data.name)}`,
    value: `${fixed(100 * (here[state.candidate] - there[state.candidate]), 1)} points`,
    note: "percentage points: this model minus the other",
    source: "surprise",
    table: { columns: ["token", "this model", name], rows },
  };
}

export function render(el, data, state) {
  shadeChips(null);
  const { here, there, bits, otherBits } = sides(data, state);
  const [value, name] = chosen(state, data.facts);
  const top = (shares) => Array.from(bestFirst(shares).slice(0, 10));
  fill(
    el,
    h("div", { class: "controls" }, h("label", {}, "beside this model, show", h("select", { onchange: (event) => state.set({ other: event.target.value }) }, others(data.facts).map(([option, words]) => h("option", { value: option, selected: option === value }, words))))),
    h(
      "div",
      { class: "split" },
      side(state.step < 0 ? data.facts.name : `${data.facts.name}, step ${state.step}`, here, there, top(here), bits, data.mine.text, data, state),
      side(name, there, here, top(there), otherBits, data.other.text, data, state),
    ),
  );
}

function side(name, shares, outline, ids, bits, text, data, state) {
  return h(
    "section",
    { "aria-label": name },
    h("h2", {}, name),
    h("p", { class: "figure", style: { margin: "0.25rem 0 0.75rem" } }, fixed(bits), h("span", { class: "small muted words" }, " bits a token")),
    h(
      "div",
      { class: "bars" },
      ids.map((id) =>
        h(
          "button",
          { type: "button", class: "row", "aria-pressed": String(id === state.candidate), onclick: () => state.set({ candidate: id }) },
          token(data.facts.vocabulary[id]),
          h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * shares[id]}%` } }), h("span", { class: "before", style: { width: `${100 * outline[id]}%` } })),
          h("span", { class: "number" }, percent(shares[id])),
        ),
      ),
    ),
    h("p", { class: "small muted", style: { margin: "1rem 0 0.25rem" } }, "it continues"),
    h("p", { class: "story" }, "…", text),
  );
}
