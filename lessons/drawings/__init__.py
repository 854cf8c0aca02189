"""The drawings of the lessons, made by code: `python lessons/build.py` writes them.

Each is a function that returns a `Drawing`; its file is named after the function. To add one, write
it, add it to its module's `DRAWINGS`, and show it in a lesson: `![its
title](drawings/its-name.svg)`.
Tests: tests/lessons/test_drawings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drawings import attention, inference, learning, model, run, text, today, weights
from drawings.svg import Drawing
from llm_scratch.storage.files import atomic_write

DRAWINGS: dict[str, Callable[[], Drawing]] = {
    draw.__name__.replace("_", "-"): draw
    for module in (learning, text, attention, model, inference, weights, run, today)
    for draw in module.DRAWINGS
}
"""File name without .svg -> the function that draws it."""


def write_drawings(folder: Path) -> None:
    """Write every drawing as an SVG file."""
    for name, draw in DRAWINGS.items():
        atomic_write(folder / f"{name}.svg", draw().svg())
