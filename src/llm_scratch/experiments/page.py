"""Parts that the pages of all experiments share: the page, a figure, tables in Markdown, the files.

Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from llm_scratch.experiments.charts import CHART_STYLE
from llm_scratch.reports.html import Html, element
from llm_scratch.reports.style import STYLE
from llm_scratch.storage.files import atomic_write

HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"
BROAD, NARROW = 880, 340
"""Widths of a chart in pixels, on a screen and on a phone."""


def html_page(title: str, sections: Iterable[Html]) -> str:
    """A page without network access or scripts; empty sections are left out."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE + CHART_STYLE)),
    )
    body = element("body", element("main", *(section for section in sections if section)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *content: Html) -> Html:
    """A part of a page under a heading."""
    return element("section", element("h2", title), *content)


def figure(draw: Callable[[int, str], Html], caption: str, legend: Html | None = None) -> Html:
    """A chart in two widths, of which the page shows one.

    Args:
        draw: function of the width in pixels and the class of the chart.
        caption: under the chart.
        legend: between the two.
    """
    charts = [draw(width, kind) for width, kind in ((BROAD, "broad"), (NARROW, "narrow"))]
    parts = [legend] if legend is not None else []
    return element("figure", *charts, *parts, element("figcaption", caption))


def save_pages(folder: Path, page: str, markdown: str) -> tuple[Path, Path]:
    """Write report.html and report.md into a folder; returns their paths."""
    paths = folder / HTML_FILE, folder / MARKDOWN_FILE
    for path, text in zip(paths, (page, markdown), strict=True):
        atomic_write(path, text)
    return paths


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells have no line breaks or unescaped bars."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
