// Training film: the same question at every snapshot of the run.

import { cividis, css } from "../colors.js";
import { choices, fill, fixed, h, percent, token, visible } from "../dom.js";
import { legend } from "../matrix.js";
import { about } from "../state.js";
import { shadeChips } from "../text.js";

export const label = "Training film";
export const title = "When did it learn this?";

const SCORES = [["look", "this look"], ["induction", "induction"], ["previous", "previous"], ["duplicate", "duplicate"], ["first", "first"]];
const MAX_WIDTH = 720;
const LEFT = 64;
const CHART = 190;
const PLAY_SECONDS = 0.6;
let playing = 0;
let score = "look";

export function needs(state, facts) {
  if (!facts.steps.length) return {};
  const body = { ...about(state), position: state.token, candidate: state.candidate, layer: state.layer, head: state.head };
  delete body.step;
  if (state.key >= 0) body.key = state.key;
  const found = { film: ["film", body] };
  if (facts.stories && state.step >= 0) found.skills = ["skills", { text: state.text, step: state.step }];
  return found;
}

export function reading(data, state) {
  const rows = data.film?.rows ?? [];
  if (!rows.length) {
    return { sentence: "This run kept no snapshots of its training. Train with --train.snapshot-every 50 to see the film; the preset quickstart does.", label: "snapshots", value: "0", source: "snapshot", table: null };
  }
  const learned = rows.find((row, i) => rows.slice(i).every(({ probability }) => probability >= 0.5));
  const now = rows.find(({ step }) => step === state.step) ?? rows.at(-1);
  return {
    sentence: learned
      ? [token(data.name), " has had at least ", h("b", {}, "50 %"), " since step ", h("b", {}, String(learned.step)), `. At step ${now.step} it has `, h("b", {}, percent(now.probability)), "; the best token is ", token(now.best), "."]
      : ["At step ", h("b", {}, String(now.step)), " ", token(data.name), " has ", h("b", {}, percent(now.probability)), "; it never keeps more than half."],
    label: `probability of ${visible(data.name)} at step ${now.step}`,
    value: percent(now.probability),
    note: `surprise of the whole text: ${fixed(now.bits)} bits a token`,
    formula: "The same text is read by each snapshot.\nA snapshot is the weights of a step in 8 bits.",
    source: "snapshot",
    table: { columns: ["step", `probability of ${data.name}`, "would say", "bits a token"], rows: rows.map(({ step, probability, best, bits }) => [step, probability, best, bits]) },
  };
}

const shown = (data, at) => (at < data.inspect.n_start ? "start" : data.inspect.tokens[at].text);

export function render(el, data, state) {
  shadeChips(null);
  const rows = data.film?.rows;
  if (!rows?.length) return fill(el);
  const last = rows.at(-1).step;
  const width = Math.min(MAX_WIDTH, el.clientWidth);
  const x = (step) => LEFT + ((width - LEFT - 20) * step) / last;
  const y = (share) => 14 + (CHART - 30) * (1 - share);
  const losses = data.facts.curve.filter(({ step }) => step <= last).map((row) => ({ step: row.step, bits: row.val_loss / Math.LN2 }));
  const highest = Math.max(...rows.map(({ bits }) => bits), ...losses.map(({ bits }) => bits));
  const line = (value, points = rows) => points.map((row, i) => `${i ? "L" : "M"}${x(row.step).toFixed(1)} ${y(value(row)).toFixed(1)}`).join("");
  const now = rows.find(({ step }) => step === state.step) ?? rows.at(-1);
  const go = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const step = (event.clientX - box.left - LEFT) * (last / (width - LEFT - 20));
    state.set({ step: rows.reduce((best, row) => (Math.abs(row.step - step) < Math.abs(best.step - step) ? row : best)).step });
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * last));
  const chart = h(
    "svg",
    { viewBox: `0 0 ${width} ${CHART}`, width, height: CHART, style: { cursor: "pointer" }, role: "img", "aria-label": "Probability and surprise by step; the numbers are in the table", onclick: go },
    [0, 0.5, 1].map((share) => [h("line", { class: "hair", x1: LEFT, x2: width - 20, y1: y(share), y2: y(share) }), h("text", { x: LEFT - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share))]).flat(),
    ticks.map((step) => h("text", { x: x(step), y: CHART - 2, "text-anchor": "middle" }, String(step))),
    h("path", { d: line(({ bits }) => bits / highest), fill: "none", stroke: "var(--muted)", "stroke-width": 1.25 }),
    h("path", { d: line(({ bits }) => bits / highest, losses), fill: "none", stroke: "var(--muted)", "stroke-width": 1, "stroke-dasharray": "3 3" }),
    h("path", { d: line(({ probability }) => probability), fill: "none", stroke: "var(--accent)", "stroke-width": 2 }),
    h("line", { x1: x(now.step), x2: x(now.step), y1: 8, y2: CHART - 16, stroke: "var(--accent)" }),
    h("circle", { cx: x(now.step), cy: y(now.probability), r: 4, fill: "var(--accent)" }),
  );
  fill(
    el,
    h("div", { class: "controls" }, h("button", { type: "button", class: "primary", "data-stop": playing ? "" : null, onclick: () => toggle(rows, state) }, playing ? "Stop" : "Play"), h("span", { class: "muted" }, "or click the curve, drag the slider above, press s and S")),
    chart,
    h(
      "div",
      { class: "legend" },
      sample("2px solid var(--accent)", "probability of ", token(data.name)),
      sample("1px solid var(--muted)", "surprise of this text"),
      losses.length ? sample("1px dashed var(--muted)", "of validation texts") : null,
      h("span", {}, `from 0 to ${fixed(highest, 1)} bits a token`),
    ),
    h("div", { class: "controls", style: { margin: "1.75rem 0 0.75rem" } }, h("h2", {}, "When did each head appear?"), choices("Score", SCORES, score, (chosen) => ((score = chosen), state.set({})))),
    score === "look" ? h("p", { class: "small muted", style: { "margin-bottom": "0.5rem" } }, "How much of its attention each head puts from ", token(shown(data, state.token)), " on ", token(shown(data, data.film.key))) : null,
    heads(data, rows, state, width),
    legend("0 %", "100 %", false),
    data.skills ? skills(data, now) : null,
  );
}

/** A line as in the chart, and what it means. */
const sample = (line, ...words) => h("span", { class: "pair" }, h("span", { style: { width: "1.5rem", "border-top": line } }), h("span", {}, words));

function heads(data, rows, state, width) {
  const cell = (width - LEFT - 20) / rows.length;
  const parts = data.facts.heads.flatMap((count, layer) => Array.from({ length: count }, (_, head) => [layer, head]));
  return h(
    "svg",
    { viewBox: `0 0 ${width} ${parts.length * 17}`, width, height: parts.length * 17, role: "img", "aria-label": `The ${score} score of each head by step` },
    parts.map(([layer, head], r) => [
      h("text", { x: LEFT - 8, y: 17 * r + 12, "text-anchor": "end", style: layer === state.layer && head === state.head ? { fill: "var(--accent)" } : {} }, `${layer}.${head}`),
      rows.map((row, i) => {
        const value = row.scores[score][layer][head];
        return h("rect", { x: LEFT + cell * i, y: 17 * r, width: cell - 1, height: 16, fill: css(cividis(value ?? 0)), style: { cursor: "pointer" }, onclick: () => state.set({ step: row.step, layer, head }) }, h("title", {}, `head ${layer}.${head} at step ${row.step}: ${percent(value)}`));
      }),
    ]).flat(2),
  );
}

function skills({ skills: { skills: rows, stories } }, now) {
  return [
    h("h2", { style: { "margin-top": "1.5rem" } }, `What it could do at step ${now.step}, on ${stories} new stories`),
    h("p", { class: "small", style: { "margin-top": "0.4rem" } }, rows.filter(({ n }) => n).map(({ skill, n, right, chance }) => [h("b", {}, percent(right / n)), ` ${skill} `, h("span", { class: "muted" }, `(chance ${percent(chance)})   `)]).flat()),
  ];
}

/** Show one snapshot after the other, from the selected one to the last; again at any press of Stop. */
function toggle(rows, state) {
  if (playing) {
    clearInterval(playing);
    playing = 0;
    state.set({});
    return;
  }
  let at = rows.findIndex(({ step }) => step === state.step);
  if (at < 0 || at === rows.length - 1) at = -1;
  playing = setInterval(() => {
    at += 1;
    if (at >= rows.length - 1 || !document.querySelector('#view[data-view="film"]')) {
      clearInterval(playing);
      playing = 0;
    }
    state.set({ step: rows[Math.min(at, rows.length - 1)].step });
  }, 1000 * PLAY_SECONDS);
}
