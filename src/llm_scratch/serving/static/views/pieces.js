// Pieces: how the text became tokens.

import { fill, fixed, h, token, visible } from "../dom.js";
import { shadeChips } from "../text.js";

export const label = "Pieces";
export const title = "What are the pieces?";

const MAX_SHOWN = 200;

export const needs = (state) => ({ pieces: ["tokenize", { text: state.text }] });

/** The piece that the selected token is in, and the number of tokens before the piece. */
function selectedPiece(data, state) {
  let before = data.inspect.n_start;
  for (const piece of data.pieces.pieces) {
    if (state.token < before + piece.ids.length) return { piece, before };
    before += piece.ids.length;
  }
  return { piece: data.pieces.pieces.at(-1), before };
}

export function reading(data, state) {
  const { tokens, n_start } = data.inspect;
  const each = tokens[state.token];
  const bytes = new TextEncoder().encode(state.text).length;
  const count = tokens.length - n_start;
  const { piece } = selectedPiece(data, state);
  const { counts } = data.facts;
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const surprise = each.bits === null ? "it is the first: nothing predicts it" : `surprise ${fixed(each.bits)} bits${each.grammar_bits === null ? "" : `; of the grammar itself ${fixed(each.grammar_bits)} bits`}`;
  return {
    sentence: [
      "The text is ", h("b", {}, `${bytes} bytes`), " and ", h("b", {}, `${count} tokens`), `, ${fixed(bytes / Math.max(1, count), 1)} bytes a token. `,
      token(state.token < n_start ? "start" : each.text), state.token < n_start ? " begins every text." : [" is token ", h("b", {}, String(each.id)), ` of ${data.facts.vocabulary.length}.`],
    ],
    label: `token id of ${visible(each.text)}`,
    value: String(each.id),
    note: total ? `${surprise}; ${counts[each.id] ?? 0} of ${total} tokens in texts of its kind` : surprise,
    formula: "Start with single bytes. Of all neighbors that\nthe vocabulary can join, join the pair that was\nlearned first; repeat.\n\nsurprise = −log2 of the token's probability",
    source: "surprise",
    table: {
      columns: ["position", "token", "id", "surprise in bits", "bits for the grammar", "count in texts of its kind"],
      rows: tokens.map((row, i) => [i, row.text, row.id, row.bits, row.grammar_bits, total ? counts[row.id] ?? 0 : null]),
    },
    piece,
  };
}

export function render(el, data, state) {
  shadeChips(null);
  const { piece, before } = selectedPiece(data, state);
  const hex = [...new TextEncoder().encode(piece?.text ?? "")].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  let position = data.inspect.n_start;
  const words = data.pieces.pieces.map((each) => {
    const first = position;
    position += each.ids.length;
    return h("button", { type: "button", class: "plain mono", "aria-pressed": String(each === piece), onclick: () => state.set({ token: first }) }, token(each.text));
  });
  fill(
    el,
    h("p", { class: "small muted" }, `The text is cut into ${words.length === 1 ? "one piece" : `${words.length} pieces`} first; no token crosses a cut.`),
    h("div", { class: "small", style: { margin: "0.5rem 0 1.5rem", "max-width": "60rem" } }, words),
    piece
      ? [
          h("h2", {}, "From bytes to tokens: ", token(piece.text)),
          h("p", { class: "small muted mono" }, hex),
          h(
            "table",
            { style: { "margin-top": "0.75rem" } },
            h("thead", {}, h("tr", {}, h("th", {}, "parts"), h("th", { class: "number" }, "count"), h("th", { class: "number" }, "merge"), h("th", {}, "joined"))),
            h(
              "tbody",
              {},
              piece.steps.map((parts, i) =>
                h(
                  "tr",
                  {},
                  h("td", {}, parts.map((part) => [token(part), " "])),
                  h("td", { class: "number" }, String(parts.length)),
                  h("td", { class: "number" }, i && piece.merges?.[i - 1] ? `${piece.merges[i - 1].rank}` : ""),
                  h("td", {}, i && piece.merges?.[i - 1] ? token(piece.merges[i - 1].text) : ""),
                ),
              ),
            ),
          ),
          h("p", { class: "small muted", style: { "margin-top": "0.75rem" } }, `ids ${piece.ids.join(", ")}, at position ${before}`),
        ]
      : null,
    comparison(data),
  );
}

/** The same text by several tokenizers, a row each. */
function comparison(data) {
  const bytes = new TextEncoder().encode(data.pieces.pieces.map(({ text }) => text).join("")).length;
  return [
    h("h2", { style: { "margin-top": "2rem" } }, "The same text by other tokenizers"),
    data.pieces.tokenizers.map(({ name, n_vocab, tokens }) =>
      h(
        "section",
        { "aria-label": name, "data-tokenizer": name, style: { "margin-top": "0.9rem", "max-width": "60rem" } },
        h("p", { class: "small" }, h("strong", {}, name), h("span", { class: "muted" }, tokens === null ? ": not on this machine; llm-scratch tokenizer show gpt2 \"Hello\" downloads it" : ` (${n_vocab} in the vocabulary): ${tokens.length} tokens, ${fixed(bytes / Math.max(1, tokens.length), 1)} bytes each`)),
        tokens === null ? null : h("p", { class: "cuts" }, tokens.slice(0, MAX_SHOWN).map((text) => token(text)), tokens.length > MAX_SHOWN ? ` and ${tokens.length - MAX_SHOWN} more` : null),
      ),
    ),
  ];
}
