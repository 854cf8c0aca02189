"""Help on a terminal of few columns: whole words, no boxes. Imports nothing heavy.

Tests: tests/cli/test_narrow.py.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
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
    lines, about = [], list[str]()

    def finish() -> None:
        if about:
            lines.append(fold(" ".join(about), columns, "  "))
            about.clear()

    for line in text.splitlines():
        title = re.fullmatch(r"[╭]─ (.*?) ─*╮", line)
        inside = re.fullmatch(r"│ (.*) │", line)
        if inside is None:
            finish()
            lines += ["", f"{title[1]}:"] if title else [] if line.startswith("╰") else [fold(line, columns)]
        elif inside[1].startswith(" " * OPTION_COLUMNS):
            about.append(inside[1].strip())
        else:
            finish()
            flags, *rest = re.split(r" {2,}", inside[1].strip(), maxsplit=1)
            lines.append(fold(flags, columns))
            about += rest
    finish()
    return "\n".join(lines)


OPTION_COLUMNS = 17
"""columns before the descriptions in tyro's boxes"""


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
    broken = textwrap.wrap(body, max(1, columns - len(indent)), break_long_words=False, break_on_hyphens=False)
    return "\n".join(indent + line for line in broken)
