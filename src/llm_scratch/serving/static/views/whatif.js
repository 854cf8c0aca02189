// What if: switch parts of the model off, put another token in, or take a part from another text, and see what follows.

import { fill, fixed, h, percent, token, visible } from "../dom.js";
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
  if (state.source) found.patch = ["patch", clean({ ...whole(state), ...point, other: state.source }), true];
  if (state.without.length && facts.stories) found.skills = ["skills", about(state)];
  return found;
}

/** A body without its undefined fields, so that equal requests have equal names. */
const clean = (body) => Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));

const nameOf = (part) => (part.endsWith("mlp") ? `feed-forward ${part.split(".")[0]}` : `head ${part}`);

export function reading(data, state) {
  if (data.patch) return patchReading(data);
  const { now, before } = data;
  const rows = before.parts.map(({ part, probability, logit, best }) => [nameOf(part), probability, Number((logit - before.logit).toFixed(3)), best]);
  const worst = before.parts.reduce((least, part) => (part.probability < least.probability ? part : least));
  const off = state.without.map(nameOf).join(" and ");
  return {
    sentence: state.without.length
      ? ["Without ", h("b", {}, off), ", ", token(data.name), " falls from ", h("b", {}, percent(before.probability)), " to ", h("b", {}, percent(now.probability)), "; the model would say ", token(now.best), "."].map((part) =>
          part === " falls from " && now.probability >= before.probability ? " goes from " : part,
        )
      : ["The whole model gives ", token(data.name), " ", h("b", {}, percent(before.probability)), ". Most depends on ", h("b", {}, nameOf(worst.part)), ": without it ", h("b", {}, percent(worst.probability)), " is left."],
    label: `probability of ${visible(data.name)}${state.without.length ? `, without ${off}` : ""}`,
    value: percent(now.probability),
    note: state.without.length ? `${percent(before.probability)} with the whole model` : "switch a part off to see it change",
    formula: "The part's output is replaced: by its mean over\nother stories (for a model trained on stories)\nor by zero. Then everything after it is computed.",
    source: "ablation",
    table: { columns: ["without", `probability of ${data.name}`, "change of the logit", "would say"], rows },
  };
}

function patchReading(data) {
  const { parts, answer, before, after } = data.patch;
  const most = parts.reduce((best, part) => (part.share > best.share ? part : best));
  return {
    sentence: ["With ", h("b", {}, nameOf(most.part)), " from the other text the model goes ", h("b", {}, share(most)), " of the way from ", token(data.name), " to ", token(answer), "."],
    label: `share of the way to ${visible(answer)}`,
    value: share(most),
    note: `${nameOf(most.part)} takes its value from the other text`,
    formula: "m = logit of the other answer − logit of this one\nshare = (m patched − m here) / (m there − m here)",
    source: "patching",
    table: { columns: ["part from the other text", "change of m", "share of the way"], rows: [...parts.map(({ part, change, share }) => [nameOf(part), change, share]), ["nothing: m here", before, 0], ["everything: m there", after, 1]] },
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
        h("p", { class: "story" }, "…", data.textBefore.text),
        state.without.length ? [h("p", { class: "small muted", style: { "margin-top": "0.75rem" } }, `without ${state.without.map(nameOf).join(" and ")}`), h("p", { class: "story" }, "…", data.text.text)] : null,
        state.token >= data.inspect.n_start
          ? [h("h2", { style: { "margin-top": "1.5rem" } }, "Another token here"), h("p", { class: "small", style: { "margin-top": "0.4rem" } }, swap, " ", h("button", { type: "button", onclick: put }, "Put it in"))]
          : null,
        patching(data, state),
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

/** A text that differs from the first one in what its answer depends on. */
const suggestion = ({ facts: { first } }, state) => (state.text === first.text ? first.other : "");

/** Another text, and how much of its answer each part carries. */
function patching(data, state) {
  const other = h("textarea", { "aria-label": "Another text", rows: "2", class: "wide", "data-other": "" }, state.source || suggestion(data, state) || state.text);
  const take = () => state.set({ source: other.value === state.text ? "" : other.value });
  return [
    h("h2", { style: { "margin-top": "1.5rem" } }, "A part from another text"),
    h("p", { class: "small muted", style: { "margin-top": "0.4rem" } }, "Change a word, keep the number of tokens: which part carries what the texts differ in?"),
    h("p", { class: "small", style: { "margin-top": "0.4rem" } }, other, h("button", { type: "button", "data-take": "", onclick: take }, "Take each part from it")),
    data.problems.patch ? h("p", { class: "small accent", role: "status" }, data.problems.patch) : null,
    data.patch ? h("div", { class: "bars", style: { "margin-top": "0.5rem" } }, data.patch.parts.map((part) => patchRow(part))) : null,
  ];
}

const share = (part) => `${fixed(100 * part.share, 0)} %`;

function patchRow(part) {
  return h(
    "div",
    { class: "row", "data-patched": part.part },
    h("span", { class: "token" }, nameOf(part.part)),
    h("span", { class: "track" }, h("span", { class: "fill", style: { width: `${100 * Math.min(1, Math.max(0, part.share))}%` } }), h("span", { class: "before", style: { width: "100%" } })),
    h("span", { class: "number" }, share(part)),
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
