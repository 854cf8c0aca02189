// Help: the keys, and what the words mean.

import { fill, h } from "../dom.js";
import { shadeChips } from "../text.js";

export const label = "Help";
export const title = "How do I use this?";

const KEYS = [
  ["/", "type a text"],
  ["Enter", "run it (in the text)"],
  ["Esc", "stop, or leave the text or this page"],
  ["1 … 9", "views"],
  ["← →", "token"],
  ["↑ ↓", "layer"],
  ["[ ]", "head"],
  ["h", "attention heads"],
  ["s, S", "next, previous step of the training"],
  ["g", "append the most likely token"],
  ["c", "compare"],
  ["t", "guided tour"],
  ["e", "save the table"],
  ["?", "this page"],
];
const WORDS = [
  ["token", "a piece of text that the model reads or writes at once, with a number, its id"],
  ["layer", "one round of computation; attention first, then a feed-forward network"],
  ["head", "a part of attention that moves information from earlier tokens; 1.2 is head 2 of layer 1"],
  ["query, key", "the token that attends, and the token that it attends to"],
  ["logit", "the model's score for a token, before scores become probabilities"],
  ["residual stream", "the numbers of a token to which every layer adds"],
  ["surprise", "−log2 of a token's probability, in bits: 1 bit is a coin toss; the line under a token"],
  ["step", "one update of the weights in training"],
];

export const reading = () => ({
  sentence: "Everything shown is one selection: a token, a head, a next token, a step of training. Change it in one view, and all views follow; the address of the page keeps it.",
  label: "keys",
  value: String(KEYS.length),
  table: { columns: ["key", "does"], rows: KEYS },
});

const list = (pairs) => h("dl", { class: "keys" }, pairs.map(([name, what]) => [h("dt", {}, name), h("dd", {}, what)]).flat());

export function render(el) {
  shadeChips(null);
  fill(el, h("div", { class: "split", style: { "--least": "21rem" } }, h("section", {}, h("h2", {}, "Keys"), list(KEYS)), h("section", {}, h("h2", {}, "Words"), list(WORDS))));
}
