// The state of the page: one selection that all views share. It is in the URL's hash, so that a link or a reload restores it.

/** Every field and its value at the start; the type of the value is the type of the field. */
export const DEFAULTS = {
  view: "attention",
  text: "",
  token: -1,
  key: -1,
  layer: 0,
  head: 0,
  candidate: -1,
  step: -1,
  without: [],
  source: "",
  sort: "layer",
  from: "query",
  heads: "one",
  lens: "norm",
  shade: "probability",
  lensLayer: -1,
  temperature: 1,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  typical_p: 1,
  repetition_penalty: 1,
  seed: 1,
  tree: "",
  heat: "",
  other: "",
  otherStep: -1,
  tour: -1,
};

/** The fields of a hash such as "#view=lenses&token=3"; what is not understood is left out. */
export function parseHash(hash) {
  const found = {};
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(DEFAULTS, name)) continue;
    const kind = DEFAULTS[name];
    if (Array.isArray(kind)) found[name] = text ? text.split(" ").filter((part) => /^\d+\.(\d+|mlp)$/.test(part)) : [];
    else if (typeof kind === "number") {
      if (text.trim() !== "" && Number.isFinite(Number(text))) found[name] = Number(text);
    } else found[name] = text;
  }
  return found;
}

/** The hash of a state: the fields that differ from the defaults. */
export function formatHash(state) {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const text = Array.isArray(value) ? state[name].join(" ") : String(state[name]);
    if (text !== (Array.isArray(value) ? value.join(" ") : String(value))) fields.set(name, text);
  }
  return `#${fields}`;
}

/** What every request says: the text, the step of training, the parts that are switched off. */
export function about(state) {
  const body = { text: state.text };
  if (state.step >= 0) body.step = state.step;
  if (state.without.length) body.without = state.without;
  return body;
}
