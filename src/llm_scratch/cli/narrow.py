"""Help on a terminal of few columns: whole words, no boxes. Imports nothing heavy.

Tests: tests/cli/test_narrow.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

MIN_HELP_COLUMNS = 60
"""columns below which tyro's boxes leave too little room for words"""


def terminal_columns() -> int:
    """Columns of the terminal, or what COLUMNS says; 80 where neither is known."""
    return shutil.get_terminal_size().columns


@contextmanager
def at_least_columns(least: int) -> Iterator[None]:
    """Let libraries inside the block believe that the terminal has at least this many columns."""
    before, now = os.environ.get("COLUMNS"), terminal_columns()
    if now < least:
        os.environ["COLUMNS"] = str(least)
    try:
        yield
    finally:
        if now < least and before is None:
            del os.environ["COLUMNS"]
        elif now < least:
            os.environ["COLUMNS"] = str(before)


def unboxed(text: str, columns: int) -> str:
    """Help that tyro printed in boxes, as plain paragraphs: each option, and below it, indented, what it does."""
    lines: list[str] = []
    box: list[str] | None = None
    for line in text.splitlines():
        if title := re.fullmatch(r"╭─ (.*?) ─*╮", line):
            lines += ["", fold(f"{title[1]}:", columns)]
            box = []
        elif box is None:
            lines.append(fold(line, columns))
        elif line.startswith("╰"):
            lines += _options(box, columns)
            box = None
        else:
            box.append(line.removeprefix("│ ").removesuffix("│").rstrip())
    return "\n".join(lines)


def _options(box: list[str], columns: int) -> Iterator[str]:
    """What is in a box: a heading above a rule, if there is one, then options and what each does."""
    rule = next((number for number, line in enumerate(box) if line and not line.strip("─")), -1)
    if rule > 0:
        yield fold(" ".join(box[:rule]), columns)
    about: list[str] = []
    for line in [*box[rule + 1 :], "-"]:  # a last option ends the one before it
        if line.startswith(" " * OPTION_COLUMNS):
            about.append(line.strip())
            continue
        if about:
            yield fold(" ".join(about), columns, "  ")
        flags, *about = re.split(r" {2,}", line, maxsplit=1)
        if line != "-":
            yield fold(flags, columns)


OPTION_COLUMNS = 17
"""columns before the descriptions in tyro's boxes"""
CAPTURE_COLUMNS = 120
"""columns at which tyro breaks none of our words and still puts one box below the other"""


def entries(names: dict[str, str], columns: int, width: int = 18) -> list[str]:
    """Lines of names and what they are: side by side, or one below the other where the terminal has no room for that."""
    side_by_side = [f"  {name:<{width}} {about}" for name, about in names.items()]
    if max(map(len, side_by_side)) <= columns:
        return side_by_side
    return [line for name, about in names.items() for line in (fold(f"  {name}", columns), fold(about, columns, "    "))]


def fold(text: str, columns: int, indent: str = "") -> str:
    """A line folded between words; its own indent, or a given one, stays on all lines, unless words need the room."""
    body = text.lstrip()
    indent = indent or text[: len(text) - len(body)]
    indent = indent if len(indent) * 4 <= columns else ""
    if len(indent + body) <= columns:
        return indent + body
    import textwrap  # here: help on a terminal of usual width needs none

    broken = textwrap.wrap(body, max(1, columns - len(indent)), break_long_words=False, break_on_hyphens=False)
    return "\n".join(indent + line for line in broken)
