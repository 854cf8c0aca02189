// The text: a field to type in, and under it the strip of tokens.

import { fill, fixed, h, once, token, visible } from "./dom.js";

const HEIGHT_PER_BIT = 0.6;
const MAX_HEIGHT = 6;

function build(el) {
  const form = h("form", { onsubmit: (event) => (event.preventDefault(), form.run()) });
  const field = h("textarea", {
    rows: "1",
    "aria-label": "Text for the model",
    spellcheck: "false",
    onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || !event.shiftKey)) {
        event.preventDefault();
        form.run();
      }
      if (event.key === "Escape") field.blur();
    },
  });
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Tokens" });
  form.append(field, h("button", { type: "submit", class: "primary" }, "Run"));
  fill(el, form, strip);
  return { form, field, strip };
}

export function renderText(el, data, state) {
  const { form, field, strip } = once(el, () => build(el));
  form.run = () => state.set({ text: field.value });
  if (document.activeElement !== field) field.value = state.text;
  const { tokens, n_start } = data.inspect;
  const hadFocus = strip.contains(document.activeElement);
  const chips = tokens.map((each, i) =>
    h(
      "button",
      {
        class: "chip",
        type: "button",
        "aria-pressed": String(i === state.token),
        tabindex: i === state.token ? "0" : "-1",
        title: describe(each, i),
        "data-position": String(i),
        style: { "--bits": `${Math.min(MAX_HEIGHT, HEIGHT_PER_BIT * (each.bits ?? 0))}px` },
        onclick: () => state.set({ token: i }),
      },
      i < n_start ? "▸" : token(each.text),
    ),
  );
  fill(strip, chips);
  const chosen = chips[state.token];
  if (hadFocus) chosen.focus();
  if (chosen && strip.scrollWidth > strip.clientWidth) strip.scrollLeft = chosen.offsetLeft - strip.clientWidth / 2;
}

function describe({ text, id, bits, grammar_bits }, position) {
  const parts = [`position ${position}: ${visible(text)}, id ${id}`];
  if (bits !== null) parts.push(`surprise ${fixed(bits)} bits`);
  if (grammar_bits !== null) parts.push(`of the grammar itself ${fixed(grammar_bits)} bits`);
  return parts.join("; ");
}

/** Shade the chips by shares from 0 to 1, such as the attention of the selected token. */
export function shadeChips(shares) {
  document.querySelectorAll("#text .chip").forEach((chip, i) => chip.style.setProperty("--weight", String(shares?.[i] ?? 0)));
}
