"""The glossary of the course: its terms, what they mean, and which lesson introduces them.

One source, glossary.yaml, for `llm-scratch explain` and docs/glossary.md.
Tests: tests/learn/test_glossary.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llm_scratch.errors import DATA, unknown
from llm_scratch.storage.safe_parse import parse_yaml_value

FILE = Path(__file__).parent / "glossary.yaml"


@dataclass(frozen=True)
class Term:
    """An entry of the glossary.

    Attributes:
        name: the term.
        lesson: the section that introduces it, such as "0.3".
        text: what it means.
        also: other names for it.
        everyday: whether the lessons use the word in its everyday sense, too.
    """

    name: str
    lesson: str
    text: str
    also: tuple[str, ...] = ()
    everyday: bool = False


@cache
def terms() -> dict[str, Term]:
    """All terms by name, in the order of the course."""
    entries = parse_yaml_value(FILE.read_text(encoding="utf-8"), FILE.name)
    all_terms = [Term(**{**entry, "also": tuple(entry.get("also", ()))}) for entry in entries]
    return {term.name: term for term in all_terms}


def find_term(name: str) -> Term:
    """The term with this name or other name; case, hyphens and spaces do not matter.

    Raises:
        UserError: there is none; names the nearest.
    """
    by_key = {
        _key(word): term for term in reversed(terms().values()) for word in (*term.also, term.name)
    }
    if _key(name) in by_key:
        return by_key[_key(name)]
    raise unknown("term", name, terms(), DATA)


def _key(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ").strip()


def as_markdown() -> str:
    """The glossary as docs/glossary.md."""
    lines = [
        "# Glossary",
        "",
        "The terms of the lessons, and the section that introduces each.",
        "",
    ]
    lines += ["In a terminal: `llm-scratch explain loss`.", ""]
    for term in sorted(terms().values(), key=lambda term: term.name.lower()):
        others = f" (also: {', '.join(term.also)})" if term.also else ""
        lesson = term.lesson.split(".")[0]
        lines += [f"## {term.name}", "", f"{term.text}{others}", ""]
        lines += [f"Introduced in [{term.lesson}](../notebook/step{lesson}.ipynb).", ""]
    return "\n".join(lines)
