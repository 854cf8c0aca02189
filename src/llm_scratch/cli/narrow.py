"""Help on a narrow terminal: whole words, no boxes; imports only the standard library.

Tests: tests/cli/test_narrow.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

MIN_HELP_COLUMNS = 60
"""Columns; on a narrower terminal tyro's boxes would break words."""


def terminal_columns() -> int:
    """Columns of the terminal or of the variable COLUMNS; 80 if neither is known."""
    return shutil.get_terminal_size().columns


@contextmanager
def at_least_columns(least: int) -> Iterator[None]:
    """Context manager that reports a terminal of at least this many columns to libraries."""
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
    """Convert tyro's boxes to paragraphs: each option, its indented description below."""
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
    """The lines of a box: an optional heading above a rule, then options and descriptions."""
    rule = next((number for number, line in enumerate(box) if line and not line.strip("─")), -1)
    if rule > 0:
        yield fold(" ".join(box[:rule]), columns)
    about: list[str] = []
    for line in [*box[rule + 1 :], "-"]:  # "-" ends the last option
        if line.startswith(" " * OPTION_COLUMNS):
            about.append(line.strip())
            continue
        if about:
            yield fold(" ".join(about), columns, "  ")
        flags, *about = re.split(r" {2,}", line, maxsplit=1)
        if line != "-":
            yield fold(flags, columns)


OPTION_COLUMNS = 17
"""Columns before the descriptions in tyro's boxes."""
CAPTURE_COLUMNS = 120
"""Columns at which tyro breaks no word and does not place boxes side by side."""


def entries(names: dict[str, str], columns: int, width: int = 19) -> list[str]:
    """Lines of names and descriptions: side by side, or one below the other if narrow."""
    width = max(width, *map(len, names))
    side_by_side = [f"  {name:<{width}} {about}" for name, about in names.items()]
    if max(map(len, side_by_side)) <= columns:
        return side_by_side
    return [
        line
        for name, about in names.items()
        for line in (fold(f"  {name}", columns), fold(about, columns, "    "))
    ]


def fold(text: str, columns: int, indent: str = "") -> str:
    """Wrap a line between words; all lines get `indent`, or that of the line.

    The narrowest terminals get no indent.
    """
    body = text.lstrip()
    indent = indent or text[: len(text) - len(body)]
    indent = indent if len(indent) * 4 <= columns else ""
    if len(indent + body) <= columns:
        return indent + body
    import textwrap  # imported here: rarely needed, and help should be fast

    broken = textwrap.wrap(
        body, max(1, columns - len(indent)), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(indent + line for line in broken)
