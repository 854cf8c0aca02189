// What if: switch parts of the model off, or put another token in, and see what follows.

import { fill, h, percent, token, visible } from "../dom.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "What if";
export const title = "What breaks without this?";

const whole = (state) => ({ ...about(state), without: undefined });

export function needs(state, facts) {
  const point = { position: state.token, candidate: state.candidate };
  const found = {
    now: ["ablate", { ...about(state), ...point }],
    before: ["ablate", clean({ ...whole(state), ...point })],
    text: ["continue", about(state)],
    textBefore: ["continue", clean(whole(state))],
  };
  if (state.without.length && facts.stories) found.skills = ["skills", about(state)];
  return found;
}

/** A body without its undefined fields, so that equal requests have equal names. */
const clean = (body) => Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));

const nameOf = (part) => (part.endsWith("mlp") ? `feed-forward ${part.split(".")[0]}` : `head ${part}`);

export function reading(data, state) {
  const { now, before } = data;
  const rows = before.parts.map(({ part, probability, logit, best }) => [nameOf(part), probability, Number((logit - before.logit).toFixed(3)), best]);
  const worst = before.parts.reduce((least, part) => (part.probability < least.probability ? part : least));
  const off = state.without.map(nameOf).join(" and ");
  return {
    sentence: state.without.length
      ? ["Without ", h("b", {}, off), ", ", token(data.name), " falls from ", h("b", {}, percent(before.probability)), " to ", h("b", {}, percent(now.probability)), "; the model would say ", token(now.best), "."].map((part) =>
          part === " falls from " && now.probability >= before.probability ? " goes from " : part,
        )
      : ["The whole model gives ", token(data.name), " ", h("b", {}, percent(before.probability)), ". Most depends on ", h("b", {}, nameOf(worst.part)), ": without it ", h("b", {}, percent(worst.probability)), " are left."],
    label: `probability of ${visible(data.name)}${state.without.length ? `, without ${off}` : ""}`,
    value: percent(now.probability),
    note: state.without.length ? `${percent(before.probability)} with the whole model` : "switch a part off to see it change",
    formula: "The part's output is replaced: by its mean over\nother stories for a model of the stories, else\nby zero. Everything after it is computed again.",
    source: "ablation",
    table: { columns: ["without", `probability of ${data.name}`, "change of the logit", "would say"], rows },
  };
}

export function render(el, data, state) {
  shadeChips(null);
  const { before, now } = data;
  const focused = el.contains(document.activeElement) ? document.activeElement.dataset.part : null;
  const swap = h("input", { type: "text", "aria-label": "Another token here", size: "10", value: data.inspect.tokens[state.token].text, class: "mono" });
  const put = () => {
    const { tokens, n_start } = data.inspect;
    const texts = tokens.map(({ text }) => text);
    texts[state.token] = swap.value;
    state.set({ text: texts.slice(n_start).join(""), token: state.token, candidate: state.candidate });
  };
  swap.addEventListener("keydown", (event) => event.key === "Enter" && put());
  fill(
    el,
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "grow", style: { "max-width": "38rem" } },
        h("h2", {}, "Switch off one part: what is left of ", token(data.name)),
        h("div", { class: "bars", style: { "margin-top": "0.5rem" } }, before.parts.map((part) => row(part, before, state))),
        h("p", { class: "small muted", style: { "margin-top": "0.5rem" } }, "The outline is the whole model. A part stays off in all views until it is switched on again."),
      ),
      h(
        "div",
        { class: "grow" },
        h("h2", {}, "The text that follows"),
        h("p", { class: "small muted", style: { "margin-top": "0.5rem" } }, "whole model"),
        h("p", { class: "story" }, data.textBefore.text),
        state.without.length ? [h("p", { class: "small muted", style: { "margin-top": "0.75rem" } }, `without ${state.without.map(nameOf).join(" and ")}`), h("p", { class: "story" }, data.text.text)] : null,
        state.token >= data.inspect.n_start
          ? [h("h2", { style: { "margin-top": "1.5rem" } }, "Another token here"), h("p", { class: "small", style: { "margin-top": "0.4rem" } }, swap, " ", h("button", { type: "button", onclick: put }, "Put it in"))]
          : null,
        data.facts.stories ? skills(data, state) : null,
      ),
    ),
  );
  if (focused) el.querySelector(`[data-part="${focused}"]`)?.focus();
}

function row({ part, probability }, before, state) {
  const off = state.without.includes(part);
  const toggle = () => state.set({ without: off ? state.without.filter((other) => other !== part) : [...state.without, part].sort() });
  return h(
    "button",
    { type: "button", class: "row", "data-part": part, "aria-pressed": String(off), onclick: toggle },
    h("span", { class: "token" }, `${nameOf(part)}${off ? ", off" : ""}`),
    h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * probability}%` } }), h("span", { class: "before", style: { width: `${100 * before.probability}%` } })),
    h("span", { class: "number" }, percent(probability)),
  );
}

function skills(data, state) {
  if (!data.skills) return h("p", { class: "small muted", style: { "margin-top": "1.5rem" } }, "Switch a part off to measure which skill falls.");
  return [
    h("h2", { style: { "margin-top": "1.5rem" } }, `Skills, on ${data.skills.stories} new stories`),
    h(
      "table",
      { style: { "margin-top": "0.4rem" } },
      h("thead", {}, h("tr", {}, h("th", {}, "skill"), h("th", { class: "number" }, "whole"), h("th", { class: "number" }, "without"), h("th", { class: "number" }, "chance"), h("th", { class: "number" }, "questions"))),
      h(
        "tbody",
        {},
        data.skills.skills.filter(({ n }) => n).map(({ skill, n, right, right_without, chance }) =>
          h(
            "tr",
            { "data-skill": skill },
            h("td", {}, skill),
            h("td", { class: "number" }, percent(right / n)),
            h("td", { class: right - right_without > 0.1 * n ? "number accent" : "number" }, percent(right_without / n)),
            h("td", { class: "number muted" }, percent(chance)),
            h("td", { class: "number muted" }, String(n)),
          ),
        ),
      ),
    ),
  ];
}
