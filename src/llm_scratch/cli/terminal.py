"""What the verbs share on a terminal: a console that knows NO_COLOR and pipes, and numbers as people read them.

Tests: tests/cli/test_terminal.py.
"""

from __future__ import annotations

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
    """A console on stdout (or stderr): colors only on a terminal and without NO_COLOR, nothing guessed from the text.

    Args:
        stderr: print there instead of on stdout.
        lenient: a notice; output that cannot be written is discarded, after this line on stderr, instead of raising
            (see `streams.LenientStream`).
    """
    stream = sys.stderr if stderr else sys.stdout
    file = cast(TextIO, LenientStream(stream, lenient)) if lenient else None
    kind = QuietConsole if is_quiet() else Console
    return kind(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)


class QuietConsole(Console):
    """A console of a command with `--quiet`: it prints, and shows no status line."""

    def status(self, status: RenderableType, **more: Any) -> Status:
        """A status line that is not shown."""
        return Console(file=StringIO(), quiet=True).status(status, **more)


def print_note(text: str, screen: Console | None = None) -> None:
    """Print a line beside the result, such as a hint or the speed; `--quiet` leaves it out.

    Args:
        screen: where the line goes, None for stderr.
    """
    if is_quiet():
        return
    if screen is None:
        print_line(text, stderr=True)
    else:
        screen.print(text, soft_wrap=keeps_lines(screen))


def print_warning(text: str, screen: Console) -> None:
    """Print a warning among the lines of a screen; with `--quiet` on stderr, since the screen may show nothing then."""
    if is_quiet():
        print_error(f"warning: {text}")
    else:
        screen.print(Text(f"warning: {text}"), soft_wrap=keeps_lines(screen))


def keeps_lines(screen: Console) -> bool:
    """Whether a line of prose is printed as one, to be searched in a file; on a terminal it is wrapped between words."""
    return not screen.is_terminal


def shows_colors(screen: Console) -> bool:
    """Whether a console shows ANSI colors, and NO_COLOR is not set."""
    return screen.color_system not in (None, "windows") and not screen.no_color


def print_line(text: str, stderr: bool = False) -> None:
    """Print a line of prose: wrapped between words on a terminal, unchanged elsewhere."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        text = wrap(text, terminal_columns())
    print(text, file=stream, flush=True)


def print_error(text: str) -> None:
    """Print an error or a warning on stderr, after the name of the program."""
    print_line(f"llm-scratch: {text}", stderr=True)


class FittingTable(Table):
    """A table that becomes a list of `name: value` lines where its columns do not fit.

    Numbers are never cut or broken over lines, and words are only if they are longer than `MAX_WORD_WIDTH`.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or the list."""
        widths = [_cell_widths(column) for column in self.columns]
        for column, (widest, _) in zip(self.columns, widths):
            if column.justify == "right" and widest <= MAX_NUMBER_WIDTH:
                column.no_wrap = True
        needed = [widest if column.no_wrap else word for column, (widest, word) in zip(self.columns, widths)]
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
        """Fix the width of each column where not all have room for their widest cell: the rest goes first to those that lack little.

        rich alone takes most from the widest column, and breaks its words while others have room to spare.
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
        """Each row as its first cell, then the others by name; an empty line before the next row that has a first cell."""
        headers = [_plain(column.header) if self.show_header else "" for column in self.columns]
        for row in zip(*(column.cells for column in self.columns)):
            first, *others = (" ".join(_plain(cell).split()) for cell in row)
            named = [f"{header}: {cell}" if header else cell for header, cell in zip(headers[1:], others) if cell]
            if self.show_header:
                yield from ["", first, *(f" {line}" for line in named)]
            else:  # name and value
                yield " ".join([first, *named]).strip()


MAX_NUMBER_WIDTH, MAX_WORD_WIDTH = 16, 32
"""Columns of a cell that is taken for a number, and of a word that a table is given room for; longer words are folded."""
MIN_SHORTENED_WIDTH = 6
"""Columns down to which the cells of a column with `overflow="ellipsis"` are shortened before the table becomes a list."""


def _cell_widths(column: Column) -> tuple[int, int]:
    """Columns that the widest cell takes, and the widest word of one, a long word counted as `MAX_WORD_WIDTH`."""
    texts = [_plain(column.header), *map(_plain, column.cells)]
    words = [cell_len(word) for text in texts for word in text.split()]
    return max(map(cell_len, texts), default=0), min(max(words, default=0), MAX_WORD_WIDTH)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def table(*columns: str, left: int = 1) -> FittingTable:
    """A borderless table: the first `left` columns are left-aligned, the numbers after them right-aligned."""
    grid = FittingTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return grid


def boxed(text: str, title: str, width: int, style: str = "none") -> RenderableType:
    """A text in a box of at most 88 columns; below 40, where a box would take the room, the title and the text."""
    if width < 40:
        return Text(f"{title}:\n{text}")
    return Panel(Text(text), title=title, title_align="left", border_style=style, width=min(width, 88))


def excerpt(text: str, n_characters: int) -> str:
    """The beginning of a text for a terminal: at most `n_characters`, cut between words."""
    text = sanitize(text).strip()
    return text if len(text) <= n_characters else text[:n_characters].rsplit(" ", 1)[0] + " …"


def truncate(text: str, width: int) -> Text:
    """A cell of at most `width` letters, on one line; what is left out shows as an ellipsis, and no number is cut in two."""
    line = " ".join(sanitize(text).split())
    if len(line) > width:
        kept = line[: width - 1]
        line = f"{kept.rstrip('0123456789.,') if line[width - 1].isdigit() else kept}…"
    return Text(line, overflow="ellipsis", no_wrap=True)


def on_terminal() -> bool:
    """Whether stdout is a screen and not a pipe or a file."""
    return sys.stdout.isatty()
