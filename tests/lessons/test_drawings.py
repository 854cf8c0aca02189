"""The drawings are well-formed, up to date, described, and shown in a lesson."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

import jupytext
import pytest
from conftest import ROOT
from drawings import DRAWINGS
from drawings.svg import COLORS, DARK, LIGHT, Drawing

FOLDER = ROOT / "notebook" / "drawings"
LESSONS = sorted((ROOT / "lessons").glob("step*_*.py"))
SVG = "{http://www.w3.org/2000/svg}"

each_drawing = pytest.mark.parametrize("name", DRAWINGS)


@cache
def images() -> list[tuple[str, str]]:
    """(alternative text, file) of each picture in the lessons' text."""
    texts = [
        cell.source
        for path in LESSONS
        for cell in jupytext.read(path).cells
        if cell.cell_type == "markdown"
    ]
    return [
        (" ".join(alt.split()), file)
        for text in texts
        for alt, file in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)
    ]


@each_drawing
def test_drawing_file_equals_the_output_of_its_code(name):
    path = FOLDER / f"{name}.svg"
    assert path.is_file(), "run: python lessons/build.py"
    assert path.read_text(encoding="utf-8") == DRAWINGS[name]().svg(), (
        "the drawing changed; run: python lessons/build.py"
    )


def test_every_drawing_file_has_code():
    assert {path.stem for path in FOLDER.glob("*")} == set(DRAWINGS)


@each_drawing
def test_drawing_is_shown_once_with_its_title_as_alternative_text(name):
    assert images().count((DRAWINGS[name]().title, f"drawings/{name}.svg")) == 1


def test_lessons_show_only_drawings_that_exist():
    assert {file for _, file in images()} == {f"drawings/{name}.svg" for name in DRAWINGS}


@each_drawing
def test_drawing_is_self_contained_and_has_dark_colors(name):
    text = DRAWINGS[name]().svg()
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}title").text == DRAWINGS[name]().title
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|url\(|<script|<image", text), "it must not load anything"
    used = {word for element in root.iter() for word in element.get("class", "").split()}
    known = set(re.findall(r"\.([a-z][\w-]*)", root.find(f"{SVG}style").text)) | {"bold", "mono"}
    assert used <= known, f"classes without a style: {used - known}"


def luminance(color: str) -> float:
    """Return the relative luminance of #rrggbb.

    Source: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance.
    """
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_drawing_text_is_legible_on_every_color(palette):
    for background in ("paper", *COLORS):
        assert contrast(palette["ink"], palette[background]) >= 4.5, background
    for text in ("soft", *(f"{color}-line" for color in COLORS if color != "grey")):
        assert contrast(palette[text], palette["paper"]) >= 4.5, text


def test_drawing_text_that_does_not_fit_is_an_error():
    d = Drawing("A test", 100)
    with pytest.raises(ValueError, match="'a long label' is too wide for its box"):
        d.box(10, 10, 40, 30, "a long label")
    with pytest.raises(ValueError, match="is not on the paper"):
        d.text(700, 50, "beyond the edge")
