// The top bar: the model, the film slider, what is switched off, theme and help.

import { fill, h, once } from "./dom.js";
import { TOUR } from "./tour.js";

const number = new Intl.NumberFormat("en");

function build(el, facts, set) {
  const steps = [...facts.steps, -1];
  const slider = h("input", { type: "range", min: "0", max: String(steps.length - 1), "aria-label": "Step of training", oninput: () => set({ step: steps[slider.value] }) });
  const shown = h("output");
  const without = h("span", { class: "without" });
  const theme = h("button", { type: "button", class: "plain", onclick: () => toggleTheme() }, "Theme");
  fill(
    el,
    h(
      "div",
      { class: "model" },
      h("strong", {}, facts.name),
      h("span", { class: "muted" }, `${number.format(facts.parameters)} parameters · ${facts.layers} layers × ${facts.heads[0]} heads`),
    ),
    without,
    facts.steps.length ? h("div", { class: "film" }, h("span", { class: "muted" }, "training step"), slider, shown) : null,
    h(
      "div",
      {},
      theme,
      h("button", { type: "button", class: "plain", onclick: () => set({ tour: 0, ...TOUR[0].state(facts) }) }, "Tour"),
      h("button", { type: "button", class: "plain", onclick: () => set({ view: "help" }), "aria-keyshortcuts": "?" }, "Help"),
    ),
  );
  return { steps, slider, shown, without };
}

export function renderBar(el, facts, state, set) {
  const { steps, slider, shown, without } = once(el, () => build(el, facts, set));
  slider.value = String(steps.indexOf(state.step));
  shown.textContent = state.step < 0 ? "finished" : number.format(state.step);
  slider.setAttribute("aria-valuetext", shown.textContent);
  fill(
    without,
    state.without.length ? "without" : null,
    state.without.map((part) =>
      h("button", { type: "button", "aria-label": `switch ${part} on again`, onclick: () => set({ without: state.without.filter((other) => other !== part) }) }, `${part} ×`),
    ),
  );
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remembered((storage) => storage.setItem("theme", root.dataset.theme));
  dispatchEvent(new Event("themechange"));
}

/** Use the browser's storage; null where it is blocked. */
function remembered(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}

const chosen = remembered((storage) => storage.getItem("theme"));
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
