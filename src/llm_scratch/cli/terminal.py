"""Output on a terminal: a console for NO_COLOR and pipes, tables that fit, notes, warnings.

Tests: tests/cli/test_terminal.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from llm_scratch.cli.narrow import terminal_columns
from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.streams import LenientStream
from llm_scratch.cli.word_wrap import wrap
from llm_scratch.formatting import sanitize


def console(stderr: bool = False, lenient: str = "") -> Console:
    """A console on stdout (or stderr): colors only on a terminal, no markup or emoji codes.

    Args:
        stderr: print on stderr instead of stdout.
        lenient: a notice. If it is set, an output that cannot be written is discarded after this
            line on stderr (see `streams.LenientStream`); else it raises.
    """
    stream = sys.stderr if stderr else sys.stdout
    file = cast(TextIO, LenientStream(stream, lenient)) if lenient else None
    kind = QuietConsole if is_quiet() else Console
    return kind(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)


class QuietConsole(Console):
    """The console of a command with `--quiet`: no status line."""

    def status(self, status: RenderableType, **more: Any) -> Status:
        """A status line that is not shown."""
        return Console(file=StringIO(), quiet=True).status(status, **more)


def print_note(text: str, screen: Console | None = None) -> None:
    """Print a line that is not part of the result, such as a hint; nothing with `--quiet`.

    Args:
        screen: prints the line (default: stderr).
    """
    if is_quiet():
        return
    if screen is None:
        print_line(text, stderr=True)
    else:
        screen.print(text, soft_wrap=keeps_lines(screen))


def print_warning(text: str, screen: Console) -> None:
    """Print a warning on a console; with `--quiet` on stderr, since the console may be silent."""
    if is_quiet():
        print_error(f"warning: {text}")
    else:
        screen.print(Text(f"warning: {text}"), soft_wrap=keeps_lines(screen))


def keeps_lines(screen: Console) -> bool:
    """Whether prose is printed unwrapped, as in files and pipes, not on a terminal."""
    return not screen.is_terminal


def shows_colors(screen: Console) -> bool:
    """Whether a console shows ANSI colors, and NO_COLOR is not set."""
    return screen.color_system not in (None, "windows") and not screen.no_color


def print_line(text: str, stderr: bool = False) -> None:
    """Print a line of prose, on a terminal wrapped between words."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        text = wrap(text, terminal_columns())
    print(text, file=stream, flush=True)


def print_error(text: str) -> None:
    """Print an error or a warning on stderr, prefixed with the name of the program."""
    print_line(f"llm-scratch: {text}", stderr=True)


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
                column._cells = [truncate(_plain(cell), width + spare) for cell in column.cells]
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
            more = min(spare, widest[number] - needed[number])
            self.columns[number].width = needed[number] + more
            spare -= more

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


def table(*columns: str, left: int = 1) -> FittingTable:
    """A borderless table: the first `left` columns are left-aligned, the others right-aligned."""
    grid = FittingTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return grid


def boxed(text: str, title: str, width: int, style: str = "none") -> RenderableType:
    """A text in a box of at most 88 columns; without a box on a terminal below 40."""
    if width < 40:
        return Text(f"{title}:\n{text}")
    return Panel(
        Text(text), title=title, title_align="left", border_style=style, width=min(width, 88)
    )


def excerpt(text: str, n_characters: int) -> str:
    """The beginning of a text for a terminal: at most `n_characters`, cut between words."""
    text = sanitize(text).strip()
    return text if len(text) <= n_characters else text[:n_characters].rsplit(" ", 1)[0] + " …"


def truncate(text: str, width: int) -> Text:
    """Shorten a text to a line of `width` characters, with an ellipsis; never inside a number."""
    line = " ".join(sanitize(text).split())
    if len(line) > width:
        kept = line[: width - 1]
        line = f"{kept.rstrip('0123456789.,') if line[width - 1].isdigit() else kept}…"
    return Text(line, overflow="ellipsis", no_wrap=True)


def on_terminal() -> bool:
    """Whether stdout is a terminal, not a pipe or a file."""
    return sys.stdout.isatty()
