"""Link a term to the glossary where a lesson introduces it.

In the section that introduces a term, its first emphasized mention becomes a link to
docs/glossary.md, or its first plain mention where none is emphasized. The lessons' own text stays
free of links; only notebooks have them.
Tests: tests/lessons/test_glossary_links.py.
"""

from __future__ import annotations

import re

from llm_scratch.learn.glossary import Term, terms

PAGE = "../docs/glossary.md"
"""From a notebook's folder."""
_SECTION = re.compile(r"^##? .*?(\d+(?:\.\d+)?)", re.MULTILINE)
_SKIPPED = r"^#.*$|`[^`]*`|\$[^$]*\$|!?\[[^\]]*\]\([^)]*\)"
"""Headings, code, formulas, pictures and links."""


def link_terms(texts: list[str]) -> list[str]:
    """Add the links to a lesson's text, one string for each cell, in order."""
    cells = [re.split(r"(?m)^(?=##? )", text) for text in texts]
    section = ""
    places: dict[str, list[tuple[int, int]]] = {}  # section -> (cell, part) of its text
    for i, parts in enumerate(cells):
        for j, part in enumerate(parts):
            if heading := _SECTION.match(part):
                section = heading[1]
            places.setdefault(section, []).append((i, j))
    for term in terms().values():
        for pattern in (_emphasized(term), _plain(term)):
            if any(_link(cells, place, pattern, term) for place in places.get(term.lesson, ())):
                break
    return ["".join(parts) for parts in cells]


def anchor(term: Term) -> str:
    """The fragment of the term's heading, as GitHub and site generators make it."""
    return re.sub(r"[^\w\- ]", "", term.name.lower()).replace(" ", "-")


def _link(
    cells: list[list[str]], place: tuple[int, int], pattern: re.Pattern[str], term: Term
) -> bool:
    """Link the first match in one part of a cell; return whether there was one."""
    cell, part = place
    text = cells[cell][part]
    for match in pattern.finditer(text):
        if match[1]:
            link = f"[{match[1]}]({PAGE}#{anchor(term)})"
            cells[cell][part] = text[: match.start()] + link + text[match.end() :]
            return True
    return False


def _names(term: Term) -> str:
    names = "|".join(re.escape(name) for name in (term.name, *term.also))
    return rf"\b(?:{names})s?\b".replace(r"\ ", r"\s+")


def _emphasized(term: Term) -> re.Pattern[str]:
    """Group 1: bold or italic words that name the term."""
    bold = rf"\*\*[^*]*?{_names(term)}[^*]*\*\*"
    italic = rf"\*(?!\s)[^*\n]*?{_names(term)}[^*\n]*\*"
    other = r"\*\*[^*]+\*\*|\*[^*\n]+\*"  # consumed, so that no match begins at its end
    return re.compile(rf"{_SKIPPED}|({bold}|{italic})|{other}", re.MULTILINE | re.IGNORECASE)


def _plain(term: Term) -> re.Pattern[str]:
    """Group 1: the term."""
    return re.compile(rf"{_SKIPPED}|({_names(term)})", re.MULTILINE | re.IGNORECASE)
