"""Slides: made from a notebook, complete in one file, without external resources."""

from __future__ import annotations

import base64
import re

import nbformat
import pytest
import slides
from build import NOTEBOOKS, lessons
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from llm_scratch.errors import UserError

PNG = base64.b64encode(b"not really a picture").decode()


def printed(text):
    return new_output("stream", name="stdout", text=text)


def plotted():
    return new_output("display_data", data={"image/png": PNG})


def tagged(source, tag, *outputs):
    return new_code_cell(source, metadata={"tags": [tag]}, outputs=list(outputs))


@pytest.fixture(scope="module")
def made():
    """The slides of a small notebook with every kind of cell."""
    cells = [
        new_markdown_cell("# Step 9: a title"),
        tagged("import torch", "setup"),
        new_markdown_cell("## 9.1 Numbers\nFirst *idea*, $x_1^2$.\n\nSecond idea.\n\n- a\n- b"),
        new_code_cell("print(1 < 2)", outputs=[printed("True\n" * 20)]),
        tagged("assert True", "check"),
        tagged("ax.plot()", "plot", plotted()),
        new_markdown_cell("More, [term](../docs/glossary.md#term)."),
        new_markdown_cell("## 9.2 Exercise"),
        new_code_cell('ask("0.1")', outputs=[printed("Exercise 0.1: Shape\n\nWhat shape?\n")]),
        new_code_cell('check("0.1", ...)', outputs=[printed("not solved yet\n")]),
    ]
    return slides.slides_of(new_notebook(cells=cells))


def test_slides_follow_the_lesson(made):
    assert [(slide.title, slide.kind) for slide in made] == [
        ("Step 9: a title", "text"),
        ("9.1 Numbers", "code"),
        ("9.1 Numbers", "picture"),
        ("9.1 Numbers", "text"),
        ("9.2 Exercise", "text"),
        ("Exercise 0.1: Shape", "code"),
    ]


def test_slide_shows_the_first_paragraph_and_notes_have_the_rest(made):
    slide = made[1]
    assert "First <em>idea</em>, <svg" in slide.body
    assert "<li>a</li>" in slide.body
    assert "Second idea" not in slide.body
    assert "Second idea" in slide.notes
    assert "&lt;" in slide.body
    assert "... 6 more lines" in slide.body


def test_folded_code_is_left_out_and_its_plot_is_shown(made):
    page = slides.page_of("step9", made)
    assert "import torch" not in page
    assert "assert" not in page
    assert f"data:image/png;base64,{PNG}" in made[2].body


def test_exercise_slide_is_its_question(made):
    page = slides.page_of("step9", made)
    assert "What shape?" in page
    assert "not solved yet" not in page


def test_link_to_another_file_is_a_term(made):
    assert "<strong>term</strong>" in made[3].body


@pytest.mark.parametrize("name", lessons())
def test_slides_page_of_a_lesson_is_complete(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    page = slides.page_of(name, slides.slides_of(notebook))
    head, _, body = page.partition("<main>")
    assert not re.search(r"<link|@import|url\(|<iframe|<script[^>]+src", page.replace("url(#", ""))
    assert set(re.findall(r'src="([a-z]+:)', page)) == {"data:"}
    assert (
        body.count("<section") == body.count("<footer>") == int(re.findall(r"/ (\d+)<", body)[-1])
    )
    source = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    n_drawings = len(re.findall(r"!\[[^\]]*\]\(", source))
    assert body.count("data:image/svg+xml") == n_drawings > 0
    assert body.count('alt=""') == 0
    assert not re.findall(r"<code>[^<]*\\[a-z]+\{[^<]*</code>", body), "a formula is not drawn"


def test_formula_that_cannot_be_drawn_is_shown_as_written():
    assert slides.formula(r"\nosuch{x}", display=False) == r"<code>\nosuch{x}</code>"
    drawn = slides.formula(r"\tfrac12 \text{ or } x", display=True)
    assert drawn.startswith("<span class=display><svg ")
    assert "currentColor" in drawn
    assert slides.INK not in drawn


def test_command_writes_the_named_lessons(tmp_path, capsys):
    slides.main(["6", "--out", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["step6.html"]
    assert re.search(r"step6\.html \(\d\d slides\)", capsys.readouterr().out)
    with pytest.raises(UserError, match="unknown lesson 'step77'"):
        slides.main(["77", "--out", str(tmp_path)])
