"""docs/course.md: the ladder has every lesson, and its sections exist."""

from __future__ import annotations

import re

import jupytext
import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
LESSONS = sorted((ROOT / "lessons").glob("step*_*.py"))


def headings(lesson) -> list[str]:
    cells = jupytext.read(lesson).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"^## (\d+\.\d+)", text, re.MULTILINE)


SECTIONS = {section for lesson in LESSONS for section in headings(lesson)}


def test_course_page_has_every_lesson_in_order():
    linked = re.findall(r"^\| \[(\d) .*?\]\(\.\./notebook/(step\d)\.ipynb\)", PAGE, re.MULTILINE)
    numbers = [lesson.stem[len("step")] for lesson in LESSONS]
    assert linked == [(number, f"step{number}") for number in numbers]


def test_sections_named_by_the_course_page_exist():
    named = set(re.findall(r"\b\d\.\d+\b", PAGE))
    assert len(named) > 30
    assert named <= SECTIONS


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_walk_through_has_questions_of_the_lesson(lesson):
    number = lesson.stem[len("step")]
    part = PAGE.split(f"### Lesson {number}\n")[1].split("###")[0]
    answers = re.findall(r"\| ([^|]*) \|$", part, re.MULTILINE)[1:]
    assert len(answers) >= 6
    assert all(re.search(rf"\b{number}\.\d", answer) or "before" in answer for answer in answers)


@pytest.mark.parametrize("lesson", LESSONS[1:], ids=lambda path: path.stem)
def test_lesson_names_the_lessons_it_builds_on(lesson):
    first = jupytext.read(lesson).cells[0].source
    assert re.search(r"^From lesson \d you need", first, re.MULTILINE)
