"""rich's console and table, changed: no status line with `--quiet`, and a table that always fits.

Tests: tests/cli/test_terminal.py, tests/cli/test_output.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from llm_scratch.formatting import shorten


class QuietConsole(Console):
    """The console of a command with `--quiet`: no status line."""

    def status(self, status: RenderableType, **more: Any) -> Status:
        """A status line that is not shown."""
        return Console(file=StringIO(), quiet=True).status(status, **more)


class FittingTable(Table):
    """A table that becomes a list of `name: value` lines if its columns do not fit.

    Numbers are never cut or wrapped, and words only if they are longer than `MAX_WORD_WIDTH`.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or the list."""
        widths = [_cell_widths(column) for column in self.columns]
        for column, (widest, _) in zip(self.columns, widths):
            if column.justify == "right" and widest <= MAX_NUMBER_WIDTH:
                column.no_wrap = True
        needed = [
            widest if column.no_wrap else word
            for column, (widest, word) in zip(self.columns, widths)
        ]
        spare = options.max_width - sum(needed) - 2 * (len(needed) - 1)
        for number, (column, width) in enumerate(zip(self.columns, needed)):
            if spare < 0 and column.overflow == "ellipsis" and width + spare >= MIN_SHORTENED_WIDTH:
                column._cells = [_shortened(cell, width + spare) for cell in column.cells]
                widths[number] = _cell_widths(column)
                needed[number] = widths[number][0]
                spare = 0
        if spare >= 0:
            self._share_out(needed, [widest for widest, _ in widths], options.max_width)
            yield from super().__rich_console__(console, options)
            return
        for number, line in enumerate(self._lines()):
            if line or number:
                yield Text(line, overflow="fold")

    def _share_out(self, needed: list[int], widest: list[int], max_width: int) -> None:
        """Set the column widths if the table is too wide: those that need least come first.

        rich alone shrinks the widest column most,
        and breaks its words while others have space to spare.
        """
        spare = max_width - 2 * (len(needed) - 1) - sum(needed)
        if spare >= sum(widest) - sum(needed):
            return
        wanted = sorted(range(len(needed)), key=lambda number: widest[number] - needed[number])
        for number in wanted:
            extra = min(spare, widest[number] - needed[number])
            self.columns[number].width = needed[number] + extra
            spare -= extra

    def _lines(self) -> Iterator[str]:
        """Each row as its first cell, then `name: value` lines; an empty line between rows."""
        headers = [_plain(column.header) if self.show_header else "" for column in self.columns]
        for row in zip(*(column.cells for column in self.columns)):
            first, *others = (" ".join(_plain(cell).split()) for cell in row)
            named = [
                f"{header}: {cell}" if header else cell
                for header, cell in zip(headers[1:], others)
                if cell
            ]
            if self.show_header:
                title = f"{headers[0]} {first}" if NUMBER.fullmatch(first) else first
                yield from ["", title, *(f" {line}" for line in named)]
            else:  # name and value
                yield " ".join([first, *named]).strip()


MAX_NUMBER_WIDTH, MAX_WORD_WIDTH = 16, 32
"""Widest cell that counts as a number, and widest word that is not folded, in columns."""
NUMBER = re.compile(r"[\d.,]+")
MIN_SHORTENED_WIDTH = 6
"""Smallest width in columns of cells with `overflow="ellipsis"` before a table becomes a list."""


def _cell_widths(column: Column) -> tuple[int, int]:
    """Width of the widest cell and word in columns; words count up to `MAX_WORD_WIDTH`."""
    texts = [_plain(column.header), *map(_plain, column.cells)]
    words = [cell_len(word) for text in texts for word in text.split()]
    return max(map(cell_len, texts), default=0), min(max(words, default=0), MAX_WORD_WIDTH)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _shortened(cell: object, width: int) -> Text:
    return Text(shorten(_plain(cell), width), overflow="ellipsis", no_wrap=True)
