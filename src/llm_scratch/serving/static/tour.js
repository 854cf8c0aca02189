// The guided tour: twelve steps that set the state of the page, each with a question at its end.

import { fill, h } from "./dom.js";

const opening = ({ first }) => ({ text: first.text, token: first.position, key: -1, candidate: first.candidate, layer: first.layer, head: first.head, step: -1, without: [] });
const part = ({ first }) => `${first.layer}.${first.head}`;
const early = ({ steps }) => steps[Math.min(2, steps.length - 1)] ?? -1;

/** state: what the step shows; text: what to see; question, answers, right: the quiz; why: said after it. */
export const TOUR = [
  {
    state: (facts) => ({ ...opening(facts), view: "attention" }),
    text: ({ first, stories }) => `This model reads a ${stories ? "story and must say who comes next" : "text and must say what comes next"}: “${first.answer.trim()}”. The head shown here writes most of that answer. Follow its bright cell to the token that it looks at.`,
    question: "Where does the head find what it writes?",
    answers: ["Earlier in the same text", "In a list of names", "In the next token"],
    right: 0,
    why: "Attention can only move information that is in the text, from earlier tokens to later ones.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "whatif", without: [part(facts)] }),
    text: ({ stories }) => `Now this one head is switched off. See the probability of the answer fall, and the text that follows change${stories ? "; the table under it shows which skills fall on new stories, first of all the recall of names" : ""}.`,
    question: "What is lost with the head?",
    answers: ["The spelling of words", "What was said earlier in the text", "Nothing"],
    right: 1,
    why: "The head moves information from earlier in the text to where it is needed. Without it, the model still writes words, but no longer the right ones.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "film", step: early(facts) }),
    text: () => "Go back in its training, with the slider above. Before the head exists, the answer is one guess among many.",
    question: "Could the model do this from its first step?",
    answers: ["Yes", "No, it was learned"],
    right: 1,
    why: "The curve is low, then rises. The rows below show which head begins to look back, and when.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "pieces", token: 2 }),
    text: () => "The model never sees letters. The text is cut into pieces, and each piece becomes tokens by joining bytes that often occur together.",
    question: "Which pair is joined first?",
    answers: ["The longest", "The one learned first"],
    right: 1,
    why: "The order in which pairs were learned is the order in which they are joined.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "pieces", token: Math.max(3, facts.first.position - 4) }),
    text: () => "The line under each token is its surprise: thick where the model did not expect it. Compare it with the bits of the grammar itself, which no model can beat.",
    question: "Can the surprise of a good model be 0 everywhere?",
    answers: ["Yes", "No, a story has free choices"],
    right: 1,
    why: "The grammar itself has choices. They cannot be predicted; their bits are the floor of the loss.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "next" }),
    text: () => "The output is a number for every token, turned into probabilities. Move temperature: below 1 the favorite gains, above 1 the others do.",
    question: "What does temperature 0 do?",
    answers: ["Always takes the best token", "Makes all tokens equal"],
    right: 0,
    why: "Dividing by ever smaller numbers leaves only the largest logit.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "next", temperature: 1.5, top_p: 0.9 }),
    text: () => "Top-p keeps the most likely tokens until their sum reaches p. Struck tokens are cut, with the sampler that cut them.",
    question: "Where does top-p keep more tokens?",
    answers: ["Where the model is sure", "Where it is unsure"],
    right: 1,
    why: "A sure model reaches the sum with one or two tokens.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "lenses", lens: "norm", temperature: 1, top_p: 1 }),
    text: () => "Each row is the answer that the model would give if it stopped after that layer. Read the last column downwards.",
    question: "When is the answer there?",
    answers: ["From the start", "Only after attention has brought it"],
    right: 1,
    why: "Before attention, the model sees only the current token, and predicts what often follows it.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "flow" }),
    text: () => "Every part adds to the stream, so the logit is a sum. The longest bar belongs to the part that wrote the answer.",
    question: "What does a blue bar mean?",
    answers: ["The part makes the token less likely", "The part is switched off"],
    right: 0,
    why: "Blue is negative: without that part the logit would be higher.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "attention", sort: "induction" }),
    text: () => "Heads can be ordered by what they do. An induction head looks at the token after an earlier copy of the current one: it continues what it has seen.",
    question: "After “Anna saw … Anna”, where does an induction head look?",
    answers: ["At the first Anna", "At saw"],
    right: 1,
    why: "It looks at the token after the copy, and so proposes “saw” again.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "compare", other: "untrained", sort: "layer" }),
    text: () => "Next to it is the same model before training. It has the same parts, with random weights.",
    question: "How many bits does an untrained model need for a token?",
    answers: ["About log2 of the vocabulary", "0"],
    right: 0,
    why: "To it, all tokens are equally likely.",
  },
  {
    state: (facts) => ({ ...opening(facts), view: "write" }),
    text: () => "Let it write. Thick lines are tokens that surprised the model itself. Then type a beginning of your own: press / to get there.",
    question: "Where are thick lines likely?",
    answers: ["Where a story makes a free choice", "Inside words"],
    right: 0,
    why: "Choices carry the information; the rest follows from them.",
  },
];

let answered = -1;

export function renderTour(el, facts, state, set) {
  const step = TOUR[state.tour];
  if (!step) return fill(el);
  if (el.dataset.step !== String(state.tour)) answered = -1;
  el.dataset.step = String(state.tour);
  const go = (number) => (TOUR[number] ? set({ tour: number, ...TOUR[number].state(facts) }) : set({ tour: -1 }));
  const focused = el.contains(document.activeElement) ? document.activeElement.dataset.answer : undefined;
  fill(
    el,
    h(
      "section",
      { class: "band", "aria-label": "Guided tour" },
      h("p", { class: "small muted" }, `Tour, step ${state.tour + 1} of ${TOUR.length}`),
      h("p", {}, step.text(facts)),
      h("p", { style: { "margin-top": "0.5rem" } }, h("strong", {}, step.question)),
      h(
        "div",
        { class: "answers" },
        step.answers.map((answer, i) => h("button", { type: "button", "data-answer": String(i), "aria-pressed": String(answered === i), onclick: () => ((answered = i), renderTour(el, facts, state, set)) }, answer)),
      ),
      h("p", { class: "small", role: "status", style: { "min-height": "1.5em" } }, answered < 0 ? "" : answered === step.right ? `Yes. ${step.why}` : `Look again. ${step.why}`),
      h(
        "nav",
        { "aria-label": "Tour" },
        h("button", { type: "button", disabled: state.tour === 0, onclick: () => go(state.tour - 1) }, "Back"),
        h("button", { type: "button", class: "primary", onclick: () => go(state.tour + 1) }, state.tour + 1 < TOUR.length ? "Next" : "Finish"),
        h("button", { type: "button", class: "plain", onclick: () => set({ tour: -1 }) }, "Leave the tour"),
      ),
    ),
  );
  if (focused !== undefined) el.querySelector(`[data-answer="${focused}"]`)?.focus();
}
