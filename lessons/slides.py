"""Make slides from the lessons: notebook/stepN.ipynb -> slides/stepN.html, one file each.

Run `python lessons/slides.py` for all, or `python lessons/slides.py 1 2 --out FOLDER` for some. A
page needs no network: drawings, plots and formulas are inside it. Arrow keys, space and swiping
move; N shows the lesson's whole text below a slide, for the teacher. Printing gives a slide a page.

A slide has a heading, the first paragraph of a text, and what follows it: a drawing, a cell of code
with what it prints, or a plot. Cells that the notebook folds are left out, except for their plots.
Tests: tests/lessons/test_slides.py.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from build import NOTEBOOKS, is_folded, lessons
from slides_page import PAGE

from llm_scratch.errors import UserError, unknown
from llm_scratch.storage.files import atomic_write

MAX_OUTPUT_LINES = 14
"""Lines of printed text on a slide."""
INK = "#010203"
"""A color that nothing else has; it is replaced by that of the text."""


@dataclass(frozen=True)
class Slide:
    """A slide: its heading, its content and the notes for the teacher, as HTML."""

    title: str
    body: str
    notes: str = ""
    kind: str = "text"


def slides_of(notebook: Any) -> list[Slide]:
    """The slides of an executed notebook."""
    slides: list[Slide] = []
    title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading, text in _sections(cell.source, title):
                slides += _text_slides(heading, text)
                title = heading
        else:
            slides += _code_slides(title, cell)
    return _joined(slides)


def _joined(slides: list[Slide]) -> list[Slide]:
    """A text and the code or picture after it on one slide; the first slide stays alone."""
    joined: list[Slide] = []
    for slide in slides:
        last = joined[-1] if len(joined) > 1 else slide
        if last.kind == "text" and slide.kind != "text" and last.title == slide.title:
            joined[-1] = replace(last, body=last.body + slide.body, kind=slide.kind)
        else:
            joined.append(slide)
    return joined


def _sections(source: str, title: str) -> Iterator[tuple[str, str]]:
    """A cell's text by heading: (heading, text below); the first one may continue `title`."""
    parts = re.split(r"^#+ +(.*)$", source, flags=re.M)
    if parts[0].strip():
        yield title, parts[0]
    yield from zip(parts[1::2], parts[2::2])


def _text_slides(title: str, text: str) -> Iterator[Slide]:
    """A slide with the beginning of a text, and one for each of its drawings."""
    drawings = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text)
    blocks = [
        block
        for block in re.split(r"\n\s*\n", re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text))
        if block.strip()
    ]
    shown, told = _shown(blocks)
    yield Slide(title, as_html("\n\n".join(shown)), as_html("\n\n".join(told)))
    for alt, path in drawings:
        file = NOTEBOOKS / " ".join(path.split())
        picture = _picture("svg+xml", file.read_bytes(), " ".join(alt.split()))
        yield Slide(title, picture, kind="picture")


def _shown(blocks: list[str]) -> tuple[list[str], list[str]]:
    """The blocks of a text that are on the slide, and those in the notes.

    The first paragraph is shown, and every list, table and formula.
    """
    shown, told, has_paragraph = [], [], False
    for block in blocks:
        is_paragraph = not re.match(r"\s*(\||[-*] |\d+\. |\$\$)", block)
        if is_paragraph and has_paragraph:
            told.append(block)
            continue
        has_paragraph = has_paragraph or is_paragraph
        shown.append(block)
    return shown, told


def _code_slides(title: str, cell: Any) -> Iterator[Slide]:
    """A slide with the code and its output, and one for each plot."""
    is_exercise = re.search(r"^(ask|check)\(", cell.source, re.M)
    printed = "".join(out.text for out in cell.outputs if out.output_type == "stream")
    if is_exercise and printed.startswith("Exercise "):
        heading, _, question = printed.partition("\n")
        yield Slide(heading, f"<pre class=question>{escape(question.strip())}</pre>", kind="code")
    elif not is_exercise and not is_folded(cell):
        yield Slide(title, highlighted(cell.source) + _printed(printed), kind="code")
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = base64.b64decode(data["image/png"])
            yield Slide(title, _picture("png", picture, f"Plot: {title}"), kind="picture")


def _printed(text: str) -> str:
    lines = text.rstrip().splitlines()
    if not lines:
        return ""
    rest = (
        [f"... {len(lines) - MAX_OUTPUT_LINES} more lines"] if len(lines) > MAX_OUTPUT_LINES else []
    )
    return f"<pre class=output>{escape(chr(10).join([*lines[:MAX_OUTPUT_LINES], *rest]))}</pre>"


def _picture(kind: str, data: bytes, alt: str) -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<img src="{source}" alt="{escape(alt, quote=True)}">'


def highlighted(code: str) -> str:
    """Python code as HTML; the page has the colors of its classes."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(code.strip("\n"), PythonLexer(), HtmlFormatter(cssclass="code"))


def as_html(text: str) -> str:
    """Markdown with formulas as HTML."""
    from markdown_it import MarkdownIt

    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        formulas.append(formula(match[1] or match[2], display=bool(match[1])))
        return f"\ue000{len(formulas) - 1}\ue001"

    text = re.sub(r"\$\$(.+?)\$\$|(?<!\\)\$([^$\n]+(?:\n[^$\n]+)?)\$", keep, text, flags=re.S)
    html = MarkdownIt("commonmark").enable("table").render(text)
    # a page of slides has no files beside it: a link to one, as to the glossary, is a term
    html = re.sub(r'<a href="(?!https?:)[^"]*">(.*?)</a>', r"<strong>\1</strong>", html, flags=re.S)
    return re.sub("\ue000(\\d+)\ue001", lambda match: formulas[int(match[1])], html)


def formula(tex: str, display: bool) -> str:
    """A formula as inline SVG by matplotlib; one that it cannot draw is shown as source."""
    from matplotlib import mathtext

    plain = _without_macros(" ".join(tex.split()))
    drawn = io.BytesIO()
    try:
        depth = mathtext.math_to_image(f"${plain}$", drawn, format="svg", color=INK)
    except ValueError:
        return f"<code>{escape(tex.strip())}</code>"
    svg = drawn.getvalue().decode("utf-8").replace(INK, "currentColor")
    svg = svg[svg.index("<svg") :]
    width, height = (
        float(re.search(rf'{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height")
    )  # type: ignore[index]
    size = f"width:{width / 10:.2f}em;height:{height / 10:.2f}em;vertical-align:{-depth / 10:.2f}em"
    label = escape(tex.strip(), quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" style="{size}" ', 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    return f"<span class=display>{svg}</span>" if display else svg


def _without_macros(tex: str) -> str:
    """A formula with the commands that matplotlib does not know replaced."""
    replaced: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"\\[td]?frac(\d)(\d)", r"\\frac{\1}{\2}"),
        (r"\\[td]frac", r"\\frac"),
        (r"\\(text|operatorname)\b", r"\\mathrm"),
        (r"\\[!,;]|\\quad", " "),
        (r"\\(left|right)([.])", ""),
        (r"\\lVert|\\rVert", r"\\|"),
    ]
    for pattern, plain in replaced:
        tex = re.sub(pattern, plain, tex)
    return tex


def page_of(name: str, slides: list[Slide]) -> str:
    """The page of a lesson's slides."""
    sections = []
    for number, slide in enumerate(slides, 1):
        notes = f"<aside>{slide.notes}</aside>" if slide.notes else ""
        level = "h1" if number == 1 else "h2"
        sections.append(
            f'<section id="{number}" class="{slide.kind}"><{level}>{inline(slide.title)}</{level}>'
            f"{slide.body}{notes}<footer>{number} / {len(slides)}</footer></section>"
        )
    title = re.sub(r"[`*$]", "", slides[0].title) if slides else name
    return PAGE.replace("{title}", escape(title)).replace("{slides}", "\n".join(sections))


def inline(text: str) -> str:
    """A heading as HTML."""
    return as_html(text).removeprefix("<p>").rstrip().removesuffix("</p>")


def main(arguments: list[str]) -> None:
    """Write the slides of the named lessons ("1", "step1"), or of all."""
    import nbformat

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lesson", nargs="*", help="1, step1 ... (default: all)")
    parser.add_argument("--out", default="slides", help="folder (default: %(default)s)")
    given = parser.parse_args(arguments)
    names = [name if name.startswith("step") else f"step{name}" for name in given.lesson]
    for name in names or lessons():
        if name not in lessons():
            raise unknown("lesson", name, lessons())
        notebook: Any = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        slides = slides_of(notebook)
        path = Path(given.out, f"{name}.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, page_of(name, slides))
        print(f"notebook/{name}.ipynb -> {path} ({len(slides)} slides)")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as e:
        print(f"lessons/slides.py: {e}", file=sys.stderr)
        sys.exit(e.code)
