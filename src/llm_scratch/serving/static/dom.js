// Elements, text and numbers. Text from the model or the reader only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "rect", "line", "text", "circle", "title"]);

/** Make an element: h("button", { class: "chip", onclick }, "text", other). */
export function h(tag, props = {}, ...children) {
  const el = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, part] of Object.entries(value)) el.style.setProperty(key, part);
    else if (value === true) el.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) el.setAttribute(name, value);
  }
  el.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

/** Replace an element's children. */
export function fill(el, ...children) {
  el.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

/** Build an element's lasting parts at the first call, and return them at every call. */
export function once(el, build) {
  if (el.parts === undefined || !el.firstChild) {
    el.parts = build();
  }
  return el.parts;
}

/** A token's text with its blanks visible. */
export function visible(text) {
  return text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/[\p{Cc}\p{Cf}]/gu, "�") || "∅";
}

/** A token as an element, its blanks paler than its letters. */
export function token(text) {
  const parts = visible(text).split(/([·⏎⇥])/u).filter(Boolean);
  return h("span", { class: "token" }, parts.map((part) => ("·⏎⇥".includes(part) ? h("span", { class: "blank" }, part) : part)));
}

/** A share as a percentage with as many digits as it needs: 0.71 is "71 %". */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const value = 100 * share;
  if (value === 0) return "0 %";
  if (value > 0 && value < 0.01) return "< 0.01 %";
  if (value < 100 && value > 99.9) return "> 99.9 %";
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} %`;
}

/** A number with a fixed count of digits and a real minus sign. */
export function fixed(value, digits = 2) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits).replace(/^-(?=[0.]+$)/, "").replace("-", "−");
}

/** "three tokens back": how far apart two positions are, in words. */
export function back(distance) {
  const words = ["itself", "the token before", "two tokens back", "three tokens back", "four tokens back", "five tokens back", "six tokens back"];
  return words[distance] ?? `${distance} tokens back`;
}

/** The numbers of an array that the server sent in base64. */
export function decode({ dtype, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  if (dtype === "uint8") return bytes;
  const halves = new Uint16Array(bytes.buffer);
  return Float64Array.from(halves, half);
}

/** A float16 as a number. */
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A file's path, which may break into lines after each slash. */
export function path(text) {
  return text.split(/(?<=\/)/).flatMap((part) => [part, h("wbr")]);
}

/** A row of buttons of which one is pressed. */
export function choices(label, options, chosen, choose) {
  return h(
    "span",
    { class: "choices", role: "group", "aria-label": label },
    options.map(([value, text]) => h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, text)),
  );
}

/** Offer a file to save. */
export function save(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
