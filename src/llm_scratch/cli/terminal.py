"""Output on a terminal: a console for NO_COLOR and pipes, tables that fit, notes, warnings.

rich is imported on first use, as `--help` does not need it.
Tests: tests/cli/test_terminal.py.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO, cast

from llm_scratch.cli.narrow import terminal_columns
from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.streams import LenientStream
from llm_scratch.cli.word_wrap import wrap
from llm_scratch.formatting import sanitize, shorten

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from llm_scratch.cli.widgets import FittingTable


def console(stderr: bool = False, lenient: str = "") -> Console:
    """A console on stdout (or stderr): colors only on a terminal, no markup or emoji codes.

    Args:
        stderr: print on stderr instead of stdout.
        lenient: a notice. If it is set, an output that cannot be written is discarded after this
            line on stderr (see `streams.LenientStream`); else it raises.
    """
    from rich.console import Console

    from llm_scratch.cli.widgets import QuietConsole

    stream = sys.stderr if stderr else sys.stdout
    file = cast(TextIO, LenientStream(stream, lenient)) if lenient else None
    kind = QuietConsole if is_quiet() else Console
    return kind(stderr=stderr, file=file, highlight=False, markup=False, emoji=False)


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
        return
    from rich.text import Text

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


def table(*columns: str, left: int = 1) -> FittingTable:
    """A borderless table: the first `left` columns are left-aligned, the others right-aligned."""
    from llm_scratch.cli.widgets import FittingTable

    grid = FittingTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return grid


def boxed(text: str, title: str, width: int, style: str = "none") -> RenderableType:
    """A text in a box of at most 88 columns; without a box on a terminal below 40."""
    from rich.panel import Panel
    from rich.text import Text

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
    """Shorten a text to a line of `width` characters, as `shorten`."""
    from rich.text import Text

    return Text(shorten(text, width), overflow="ellipsis", no_wrap=True)


def on_terminal() -> bool:
    """Whether stdout is a terminal, not a pipe or a file."""
    return sys.stdout.isatty()
