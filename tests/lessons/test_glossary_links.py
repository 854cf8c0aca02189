"""Every term of the glossary is linked once, where a lesson introduces it."""

from __future__ import annotations

import re

import jupytext
import pytest
from conftest import ROOT
from glossary_links import PAGE, anchor, link_terms

from llm_scratch.learn.glossary import terms

LESSONS = sorted((ROOT / "lessons").glob("step*_*.py"))
LINK = re.compile(rf"\[([^\]]+)\]\({re.escape(PAGE)}#([\w-]+)\)")


def prose(lesson) -> list[str]:
    cells = jupytext.read(lesson).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


@pytest.fixture(scope="module")
def links() -> dict[str, list[str]]:
    """Lesson's number -> fragments of its links to the glossary, in order."""
    return {
        lesson.stem[len("step")]: [
            fragment for text in link_terms(prose(lesson)) for _, fragment in LINK.findall(text)
        ]
        for lesson in LESSONS
    }


def test_every_term_is_linked_once_in_its_lesson(links):
    for number, found in links.items():
        introduced = [
            anchor(term) for term in terms().values() if term.lesson.split(".")[0] == number
        ]
        assert sorted(found) == sorted(introduced), f"lesson {number}"


def test_every_link_leads_to_a_heading_of_the_page(links):
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {fragment for found in links.values() for fragment in found} <= made


def test_glossary_links_leave_the_text_unchanged():
    for lesson in LESSONS:
        texts = prose(lesson)
        assert [LINK.sub(r"\1", text) for text in link_terms(texts)] == texts


def test_emphasis_is_linked_rather_than_an_earlier_plain_mention():
    first, second = link_terms(["## 0.1 Shape\nThe shape", "is a **shape**, or *shape*."])
    assert first == "## 0.1 Shape\nThe shape"
    assert second == f"is a [**shape**]({PAGE}#shape), or *shape*."
    (between,) = link_terms(["## 0.1 A\n**one** shape **two** *shape*"])
    assert between.endswith(f"**one** shape **two** [*shape*]({PAGE}#shape)")


def test_plain_mention_is_linked_without_emphasis():
    assert link_terms(["## 0.1 A\nIts shape."]) == [f"## 0.1 A\nIts [shape]({PAGE}#shape)."]


def test_code_formulas_pictures_and_other_sections_get_no_link():
    texts = ["## 0.1 A\n`**shape**` $**shape**$ ![a *shape*](x.svg)", "## 0.2 B\nA **shape**"]
    assert link_terms(texts) == texts
