"""The HTML page of `compare-decoding`: one file without scripts or network access.

Tests: tests/cli/test_compare_decoding.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import exp
from typing import TYPE_CHECKING, Any

from llm_scratch.formatting import sanitize
from llm_scratch.tokenizers.token_text import token_text

if TYPE_CHECKING:
    from llm_scratch.cli.decoding_sample import DecodingSample
    from llm_scratch.evaluation.decoding_metrics import Branch
    from llm_scratch.generation.detokenizer import TextChunk

PROBABILITY_CLASSES = (
    (0.8, "very-high"),
    (0.5, "high"),
    (0.2, "medium"),
    (0.05, "low"),
    (0.0, "very-low"),
)
"""(at least this probability, the CSS class of the token)"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #dfe3ea; --paper: #fff;
  --bar: #7ba7e0; --high: #e3eefb; --medium: #dff3df; --low: #fdf0c3; --very-low: #fbd9cf }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #98a2b3; --line: #343c48;
  --paper: #15191f; --bar: #4672ad;
  --high: #1d2f47; --medium: #1c3a25; --low: #453a12; --very-low: #552a1e } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 88rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
p.about { color: var(--dim); margin-top: 0; max-width: 62rem }
code { font: .85em ui-monospace, monospace; color: var(--dim) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
thead th { color: var(--dim); font-weight: 500 }
tr.real { font-style: italic }
.texts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1rem }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .7rem .9rem;
  overflow: hidden }
h3 { font-size: 1rem; margin: 0 0 .3rem }
article code { display: block; overflow-wrap: anywhere; margin-bottom: .5rem }
.what { margin: 0 0 .3rem; font-size: .9rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: .55rem 0;
  border-top: 1px solid var(--line) }
.same { color: var(--dim); font-style: italic; margin: 0; padding: .55rem 0;
  border-top: 1px solid var(--line) }
.prompt { color: var(--dim) }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem;
  margin: 1rem 0 0 }
.facts dt { color: var(--dim) } .facts dd { margin: 0; overflow-wrap: anywhere }
.high { background: var(--high) } .medium { background: var(--medium) }
.low { background: var(--low) } .very-low { background: var(--very-low) }
.legend span { white-space: nowrap; padding: .1rem .4rem; margin-right: .4rem;
  border-radius: .2rem }
.tree ul { list-style: none; margin: 0; padding-left: 1.1rem; border-left: 1px solid var(--line) }
.tree > ul { border: 0; padding: 0 }
.tree { columns: 20rem 2; column-gap: 2.5rem }
.tree > ul { display: contents } .tree > ul > li { break-inside: avoid; margin-bottom: .8rem }
.branch { display: grid; grid-template-columns: 1fr 3.4rem 7rem; gap: .6rem; align-items: center }
.branch b { font: .9em ui-monospace, monospace; white-space: pre; overflow: hidden;
  text-overflow: ellipsis }
.branch i { font-style: normal; text-align: right; color: var(--dim);
  font-variant-numeric: tabular-nums; font-size: .85em }
.branch u { display: block; height: .55rem; background: var(--bar); border-radius: .15rem;
  min-width: 1px }
@media (max-width: 40rem) { body { margin: 1.2rem auto }
  .branch { grid-template-columns: 1fr 3.4rem 5rem } }
@media print { :root { color-scheme: light; --ink: #1c2430; --dim: #667085; --line: #dfe3ea;
  --paper: #fff; --bar: #7ba7e0;
  --high: #e3eefb; --medium: #dff3df; --low: #fdf0c3; --very-low: #fbd9cf }
  @page { margin: 14mm } * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0 }
  .texts { grid-template-columns: 1fr 1fr }
  article p, .wide, .branch { break-inside: avoid }
  h2, h3, p.about, .what { break-after: avoid }
  .wide { overflow: visible } }
"""


def render_html(
    facts: Mapping[str, str],
    prompt: str,
    shown: Sequence[DecodingSample],
    repeated: Mapping[tuple[int, int], str],
    branches: Sequence[Branch],
    tokenizer: Any,
) -> str:
    """The HTML of the whole page.

    Args:
        facts: name -> value, such as "model" and "command".
        shown: the texts of each method; one without texts is only a row of the table.
        repeated: (number of the method, sample) -> where the same text was shown before.
        branches: the most probable next tokens, as `decoding_metrics.next_token_tree` gives them.
    """
    legend = "".join(
        f'<span class="{name}">{"≥" if least else "&lt;"}'
        f" {least or PROBABILITY_CLASSES[-2][0]:.0%}</span>"
        for least, name in PROBABILITY_CLASSES
    )
    methods = [(number, method) for number, method in enumerate(shown) if method.samples]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Decoding strategies: {_text(facts["model"])}</title><style>{STYLE}</style></head><body>
<h1>{_text(prompt) or "(no prompt)"}</h1>
<p class="about">One prompt, {len(methods)} decoding methods</p>
{_facts(facts)}
<h2>Texts</h2>
<p class="about">Each token in the color of the probability that the model gave it:
<span class="legend">{legend}</span></p>
<div class="texts">
{"".join(_article(method, number, prompt, repeated) for number, method in methods)}</div>
<h2>Metrics</h2>
<p class="about">Over all texts of a method. Perplexity: of the text under the model itself, before
any sampler. Distinct-n: share of its runs of n tokens that are not a repetition. Overlap: tokens in
the longest run that occurs word for word in the training text.</p>
<div class="wide">{_table(shown)}</div>
<h2>Next-token probabilities</h2>
<p class="about">The most probable next tokens, and the most probable after each;
tokens below 1 % are left out. A space is ␣, a line break is ↵.</p>
<div class="tree">{_list(branches, tokenizer)}</div>
<p class="about">Not shown: logit bias, whose ids belong to one tokenizer; constrained decoding
(<code>--regex</code>, <code>--json-schema</code>), which changes the task; speculative decoding
without <code>--draft</code>.
<code>llm-scratch generate</code> has them all.</p>
</body></html>
"""


def _text(text: str) -> str:
    """Text as markup: control characters replaced, the rest escaped."""
    return escape(sanitize(text))


def _facts(facts: Mapping[str, str]) -> str:
    """Names and values as an HTML description list."""
    rows = "".join(
        f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>'


def format_number(value: float | None, digits: int) -> str:
    """A number with this many digits after the decimal point; – for None and NaN."""
    return "–" if value is None or value != value else f"{value:,.{digits}f}"


def _table(shown: Sequence[DecodingSample]) -> str:
    names = ("", "perplexity", "distinct-1", "distinct-2", "distinct-3", "overlap", "tokens/s")
    rows = []
    for method in shown:
        scores = method.scores
        cells = [
            _text(method.name),
            format_number(scores.perplexity, 2),
            *(format_number(share, 2) for share in scores.distinct),
        ]
        cells += [format_number(scores.overlap, 0), format_number(method.speed, 0)]
        kind = "" if method.samples else ' class="real"'
        rows.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _article(
    method: DecodingSample, number: int, prompt: str, repeated: Mapping[tuple[int, int], str]
) -> str:
    """One method: what it does, its flags and texts; repeated texts are only named."""
    texts = ""
    for sample, pieces in enumerate(method.samples):
        if (before := repeated.get((number, sample))) is not None:
            texts += f'<p class="same">The same text as {_text(before)}.</p>\n'
            continue
        body = "".join(map(_token, pieces))
        texts += f'<p class="text"><span class="prompt">{_text(prompt)}</span>{body}</p>\n'
    return f"""<article><h3>{_text(method.name)}</h3>
<p class="what">{_text(method.about)}</p><code>{_text(method.flags)}</code>
{texts}</article>
"""


def _token(piece: TextChunk) -> str:
    """A token in the color of its probability, with the number as a tooltip."""
    if piece.logprob is None or not piece.text:
        return _text(piece.text)
    chance = exp(piece.logprob)
    kind = next(name for least, name in PROBABILITY_CLASSES if chance >= least)
    return f'<span class="{kind}" title="{chance:.1%}">{_text(piece.text)}</span>'


def _list(branches: Sequence[Branch], tokenizer: Any) -> str:
    """Branches as a nested list, each with a bar as long as its probability."""
    items = "".join(_item(branch, tokenizer) for branch in branches)
    return f"<ul>{items}</ul>" if items else ""


def _item(branch: Branch, tokenizer: Any) -> str:
    token, share = escape(_visible(branch.id, tokenizer)), f"{branch.probability:.1%}"
    bar = f'<span><u style="width:{share}"></u></span>'
    row = f'<div class="branch"><b>{token}</b><i>{share}</i>{bar}</div>'
    return f"<li>{row}{_list(branch.branches, tokenizer)}</li>"


def _visible(token: int, tokenizer: Any) -> str:
    """The text of a token with visible spaces and line breaks."""
    text = token_text(tokenizer, token)
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
