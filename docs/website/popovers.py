"""The first use of a glossary term on a page opens its explanation.

The terms are those of llm_scratch.learn.glossary. The browser's own popovers do the work, without
a script: a button opens one by touch and keyboard, Escape closes it. Titles, links and code stay
as they are, and a term that is also an everyday word counts only where the text emphasizes it.
Tests: tests/architecture/test_website.py.
"""

import re
from collections.abc import Iterator
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from llm_scratch.learn.glossary import Term, terms

GLOSSARY = "docs/glossary"
PLAIN = (nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.raw)
"""Nodes in which no word becomes a button."""
BY_WORD = {word.lower(): term for term in terms().values() for word in (term.name, *term.also)}
LONGEST_FIRST = "|".join(re.escape(word) for word in sorted(BY_WORD, key=len, reverse=True))
# not in model.safetensors, --tokenizer or "module:Class"
WORDS = re.compile(rf"(?<![\w./-])({LONGEST_FIRST})s?(?![\w/-]|[.:]\w)", re.IGNORECASE)


class TermUse(nodes.Inline, nodes.TextElement):
    """The first use of a term on a page; attributes `term` and `glossary`, the page's address."""


def mark_terms(app: Sphinx, page: nodes.document, name: str) -> None:
    """Replace the first use of each term on a page by a `TermUse`."""
    if name == GLOSSARY:
        return
    address = app.builder.get_relative_uri(name, GLOSSARY)
    seen: set[str] = set()
    for text in list(page.findall(nodes.Text)):
        parents = list(_parents(text))
        if any(isinstance(parent, PLAIN) for parent in parents):
            continue
        emphasized = any(isinstance(parent, nodes.strong | nodes.emphasis) for parent in parents)
        parts = list(_split(text.astext(), seen, emphasized, address))
        if len(parts) > 1:
            text.parent.replace(text, parts)


def _split(text: str, seen: set[str], emphasized: bool, address: str) -> Iterator[nodes.Node]:
    """The text in pieces, with the terms that are not in `seen` as `TermUse`; adds them to it."""
    end = 0
    for match in WORDS.finditer(text):
        term = BY_WORD[match[1].lower()]
        if term.name in seen or (term.everyday and not emphasized):
            continue
        seen.add(term.name)
        yield nodes.Text(text[end : match.start()])
        yield TermUse("", match[0], term=term, glossary=address)
        end = match.end()
    yield nodes.Text(text[end:])


def _parents(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def anchor(term: Term) -> str:
    """The id of the term's heading on the page of the glossary."""
    return nodes.make_id(term.name)


def open_button(writer: HTML5Translator, node: TermUse) -> None:
    """Write the button up to its word."""
    writer.body.append(
        f'<button type="button" class="term" popovertarget="term-{anchor(node["term"])}">'
    )


def close_button(writer: HTML5Translator, node: TermUse) -> None:
    """Write the end of the button, and the popover."""
    term: Term = node["term"]
    name, text = escape(term.name), escape(term.text)
    more = f'<a href="{node["glossary"]}#{anchor(term)}">Glossary</a>, lesson {term.lesson}'
    writer.body.append(
        f'</button><span popover class="term-text" id="term-{anchor(term)}">'
        f"<strong>{name}</strong> {text} <small>{more}</small></span>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_node(TermUse, html=(open_button, close_button))
    app.connect("doctree-resolved", mark_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
