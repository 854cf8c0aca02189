"""The glossary: complete, up to date, and no lesson uses a term before it is introduced."""

from __future__ import annotations

import re

import jupytext
import pytest
from conftest import ROOT

from llm_scratch.errors import UserError
from llm_scratch.learn.glossary import Term, as_markdown, find_term, terms

LESSONS = sorted((ROOT / "lessons").glob("step*_*.py"))


def sections() -> dict[str, str]:
    """Return the text of each section of the lessons by number; "0" is lesson 0's introduction."""
    found: dict[str, str] = {}
    for path in LESSONS:
        here = path.stem[len("step") :].split("_")[0]
        for cell in jupytext.read(path).cells:
            if cell.cell_type != "markdown":
                continue
            for line in cell.source.splitlines():
                if heading := re.match(r"## (\d+\.\d+)", line):
                    here = heading[1]
                found[here] = found.get(here, "") + line + "\n"
    return found


SECTIONS = sections()


def uses(term: Term, text: str) -> list[str]:
    """Return where a text uses the term or another name of it.

    Code, formulas and previews in italics do not count.
    """
    plain = re.sub(
        r"`[^`]*`|\$[^$]*\$|!\[[^\]]*\]\([^)]*\)|\*[^*\n]+\*", " ", text.replace("**", "")
    )
    names = "|".join(re.escape(name).replace(r"\ ", r"[\s-]") for name in (term.name, *term.also))
    return [
        plain[max(0, m.start() - 40) : m.end() + 20].replace("\n", " ")
        for m in re.finditer(rf"\b({names})\b", plain, re.IGNORECASE)
    ]


@pytest.mark.parametrize("term", terms().values(), ids=terms())
def test_section_introduces_the_term_with_emphasis(term):
    text = re.sub(r"\s+", " ", re.sub(r"`[^`]*`|\$[^$]*\$", " ", SECTIONS[term.lesson]))
    emphasized = re.findall(r"\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*", text)
    headings = re.findall(r"^##+ (.*)", SECTIONS[term.lesson], re.MULTILINE)
    names = "|".join(re.escape(name) for name in (term.name, *term.also))
    shown = [*headings, *(bold or italic for bold, italic in emphasized)]
    assert [part for part in shown if re.search(rf"\b({names})s?\b", part, re.IGNORECASE)], (
        f"emphasize it in {term.lesson}"
    )


@pytest.mark.parametrize(
    "term", [t for t in terms().values() if not t.everyday], ids=lambda term: term.name
)
def test_no_lesson_uses_the_term_before_it_is_introduced(term):
    order = list(SECTIONS)
    earlier = [name for name in order[: order.index(term.lesson)] if "." in name]
    found = [f"{name}: ... {place} ..." for name in earlier for place in uses(term, SECTIONS[name])]
    assert not found, "\n".join(found)


STRESSED = {"before", "class", "instructions", "it", "one", "seed and step", "taken away", "text"}
STRESSED |= {"nothing changes", "what really came"}
"""Bold words of the lessons that are no terms."""


def marked(text: str) -> list[str]:
    """Bold words of at most four words, without the sentences, and italics in a lesson's table."""
    text = re.sub(r"`[^`]*`|\$[^$]*\$", " ", text)
    bold = [" ".join(words.split()) for words in re.findall(r"\*\*([^*]+)\*\*", text)]
    table = re.findall(r"^\| [\d.]+ \|.*?\*([^*]+)\*", text, re.MULTILINE)
    return [w for w in bold if len(w.split()) <= 4 and not re.search(r"[.:?]$", w)] + table


def test_terms_that_a_lesson_introduces_have_an_entry():
    introduced = {word.lower() for text in SECTIONS.values() for word in marked(text)}
    assert len(introduced) > 50
    assert introduced >= STRESSED
    missing = []
    for word in sorted(introduced - STRESSED):
        try:
            find_term(word)
        except UserError:
            missing.append(word)
    assert not missing, "add them to glossary.yaml, or stress them with *italics*"


def test_terms_are_in_the_order_of_the_course():
    order = list(SECTIONS)
    places = [order.index(term.lesson) for term in terms().values()]
    assert places == sorted(places)
    assert len(places) >= 80


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("loss", "loss"),
        ("Loss", "loss"),
        ("cross-entropy", "loss"),
        ("bits-per-byte", "bits per byte"),
        ("BITS PER BYTE", "bits per byte"),
        ("kv-cache", "key/value cache"),
        ("heads", "head"),
        ("weight", "parameter"),
        ("attention", "attention"),
        ("activation", "activation"),
        ("language-model", "language model"),
        ("multi-head attention", "head"),
        ("transformer", "transformer block"),
    ],
)
def test_term_is_found_by_any_of_its_names(name, term):
    assert find_term(name).name == term


def test_unknown_term_names_the_nearest():
    with pytest.raises(UserError, match="unknown term 'tenser'; did you mean 'tensor'"):
        find_term("tenser")


def test_glossary_page_is_up_to_date():
    assert (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8") == as_markdown(), (
        "run: python lessons/build.py"
    )
