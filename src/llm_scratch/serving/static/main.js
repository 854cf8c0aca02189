// The page: loads what the current view needs, draws the four zones, and answers the keyboard.

import { isExport, isInNotebook, onConnection, request, watch } from "./api.js";
import { renderBar } from "./bar.js";
import { decode, fill, h } from "./dom.js";
import { renderInspector, saveTable } from "./inspector.js";
import { softmax } from "./sampler.js";
import { DEFAULTS, about, formatHash, parseHash } from "./state.js";
import { renderText } from "./text.js";
import { TOUR, renderTour } from "./tour.js";
import * as attention from "./views/attention.js";
import * as compare from "./views/compare.js";
import * as film from "./views/film.js";
import * as flow from "./views/flow.js";
import * as help from "./views/help.js";
import * as lenses from "./views/lenses.js";
import * as next from "./views/next.js";
import * as pieces from "./views/pieces.js";
import * as whatif from "./views/whatif.js";
import * as write from "./views/write.js";

const VIEWS = { pieces, flow, attention, lenses, next, whatif, film, write, compare };
const zone = (id) => document.getElementById(id);
const view = h("div", { id: "view" });
const heading = h("h1");
const sentence = h("p", { class: "sentence" });
const tour = h("div");

let state = { ...DEFAULTS };
let facts;
let drawn = 0;
let spoken = "";

/** Change the state; the URL follows, and the page is drawn again. */
function set(changes) {
  const before = state;
  state = { ...state, ...changes };
  if (state.text !== before.text && !("token" in changes)) Object.assign(state, { token: -1, key: -1, candidate: -1 });
  else if (state.token !== before.token && !("candidate" in changes)) state.candidate = -1;
  if (state.token !== before.token && !("key" in changes)) state.key = -1;
  const hash = formatHash(state);
  if (hash !== location.hash && !isInNotebook()) history.replaceState(null, "", hash);
  update();
}

/** Load what the state needs, then draw; an older update that is still waiting is dropped. */
async function update() {
  const number = ++drawn;
  renderBar(zone("bar"), facts, state, set);
  renderRail();
  renderTour(tour, facts, state, set);
  view.setAttribute("aria-busy", "true");
  try {
    const data = await load();
    if (number !== drawn) return;
    draw(data);
  } catch (error) {
    if (number !== drawn) return;
    fill(sentence, error.message);
  } finally {
    if (number === drawn) view.removeAttribute("aria-busy");
  }
}

/** Everything that the current view shows; the shared selection is completed first. */
async function load() {
  const body = about(state);
  const inspect = await request("inspect", body);
  const last = inspect.tokens.length - 1;
  state.token = state.token < 0 || state.token > last ? last : state.token;
  state.key = Math.min(state.key, state.token);
  state.layer = Math.min(state.layer, facts.layers - 1);
  state.head = Math.min(state.head, facts.heads[state.layer] - 1);
  const answer = state.token === last ? inspect : await request("logits", { ...body, position: state.token });
  const logits = decode(answer.logits);
  if (state.candidate < 0 || state.candidate >= logits.length) state.candidate = state.token < last ? inspect.tokens[state.token + 1].id : logits.indexOf(Math.max(...logits));
  const data = { facts, inspect, logits, probability: softmax(logits)[state.candidate], name: facts.vocabulary[state.candidate] };
  const needs = (VIEWS[state.view] ?? help).needs?.(state, facts) ?? {};
  // an optional answer may be missing, with the reason in `problems`: an exported page has few of them
  data.problems = {};
  const answers = Object.entries(needs).map(async ([name, [path, extra, optional]]) => {
    try {
      data[name] = await request(path, extra);
    } catch (error) {
      if (!optional) throw error;
      data.problems[name] = error.message;
    }
  });
  await Promise.all(answers);
  return data;
}

function draw(data) {
  const module = VIEWS[state.view] ?? help;
  const api = { ...state, set, say };
  renderText(zone("text"), data, api);
  if (view.dataset.view !== state.view) {
    view.dataset.view = state.view;
    view.parts = undefined;
    fill(view);
  }
  const reading = module.reading(data, api);
  heading.textContent = module.title;
  fill(sentence, reading.sentence);
  module.render(view, data, api);
  renderInspector(zone("inspector"), reading, data);
  say(sentence.textContent);
}

/** Announce a sentence to screen readers, once. */
function say(text) {
  if (text !== spoken) zone("live").textContent = spoken = text;
}

function renderRail() {
  const items = Object.entries(VIEWS).map(([name, { label }], i) =>
    h(
      "li",
      {},
      h("button", { type: "button", "aria-current": name === state.view ? "page" : null, onclick: () => set({ view: name }) }, h("span", { class: "key", "aria-hidden": "true" }, String(i + 1)), label),
    ),
  );
  const focused = zone("rail").contains(document.activeElement) ? [...zone("rail").querySelectorAll("button")].indexOf(document.activeElement) : -1;
  fill(zone("rail"), h("ol", {}, items));
  const current = zone("rail").querySelector("[aria-current]");
  if (current) zone("rail").scrollLeft = current.offsetLeft - 40; // on a narrow screen the rail scrolls
  if (focused >= 0) zone("rail").querySelectorAll("button")[focused].focus();
}

const step = (list, from, by) => list[Math.min(list.length - 1, Math.max(0, list.indexOf(from) + by))];
const allSteps = () => [...facts.steps, -1];
const KEYS = {
  "/": () => zone("text").querySelector("textarea").focus(),
  "?": () => set({ view: state.view === "help" ? "attention" : "help" }),
  Escape: () => view.querySelector("[data-stop]")?.click() ?? (state.view === "help" && set({ view: "attention" })),
  ArrowLeft: () => set({ token: Math.max(0, state.token - 1) }),
  ArrowRight: () => set({ token: state.token + 1 }),
  ArrowUp: () => set({ layer: Math.max(0, state.layer - 1) }),
  ArrowDown: () => set({ layer: Math.min(facts.layers - 1, state.layer + 1) }),
  "[": () => set({ head: Math.max(0, state.head - 1) }),
  "]": () => set({ head: Math.min(facts.heads[state.layer] - 1, state.head + 1) }),
  h: () => set({ view: "attention" }),
  t: () => set(state.tour < 0 ? { tour: 0, ...TOUR[0].state(facts) } : { tour: -1 }),
  c: () => set({ view: "compare" }),
  s: () => set({ step: step(allSteps(), state.step, 1) }),
  S: () => set({ step: step(allSteps(), state.step, -1) }),
  g: () => next.append(state, set, facts),
  e: () => saveTable(),
};

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const target = event.target;
  if (event.key !== "Escape" && target.matches("textarea, input, select")) return;
  if (event.key.startsWith("Arrow") && target.closest("[role=grid]")) return; // the grid moves its own cell
  const views = Object.keys(VIEWS);
  const action = /^[1-9]$/.test(event.key) ? views[event.key - 1] && (() => set({ view: views[event.key - 1] })) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  fill(zone("stage"), tour, h("div", { class: "head" }, heading, sentence), view);
  zone("skip").addEventListener("click", (event) => (event.preventDefault(), zone("stage").focus()));
  facts = await request("start", {});
  const { first } = facts;
  const opening = { text: first.text, token: first.position, candidate: first.candidate, layer: first.layer, head: first.head };
  const fromHash = parseHash(globalThis.OPENING ?? location.hash);
  state = { ...DEFAULTS, ...(fromHash.text === undefined ? opening : {}), ...fromHash };
  addEventListener("hashchange", () => {
    state = { ...DEFAULTS, ...(parseHash(location.hash).text === undefined ? opening : {}), ...parseHash(location.hash) };
    update();
  });
  addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  addEventListener("themechange", update);
  onConnection((status) => {
    zone("banner").hidden = status === true;
    if (status !== true) zone("banner").textContent = status;
  });
  watch();
  await update();
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  zone("banner").hidden = false;
  zone("banner").textContent = isExport() ? error.message : `The page could not start: ${error.message}`;
});
