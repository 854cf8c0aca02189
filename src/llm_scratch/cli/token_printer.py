"""Texts on a screen or in a pipe while they come, and how fast they came. Proof: tests/cli/test_token_printer.py."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_scratch.cli.decoding_flags import TokenStream
from llm_scratch.cli.narrow import terminal_columns
from llm_scratch.cli.terminal import console, on_terminal, shows_colors
from llm_scratch.cli.token_colors import annotate, legend, style_of
from llm_scratch.cli.word_wrap import WordWrapper
from llm_scratch.formatting import sanitize

if TYPE_CHECKING:
    from llm_scratch.generation.detokenizer import TextChunk


BOLD = "\x1b[1m"


@dataclass
class GenerationTimer:
    """Counts tokens and seconds of writing, and the seconds to the first token of the first prompt."""

    tokens: int = 0
    seconds: float = 0.0
    first: float | None = None
    _began: float = field(default=0.0, repr=False)

    def begin(self) -> None:
        """A prompt is about to be read."""
        self._began = time.perf_counter()

    def token(self) -> None:
        """A token has come."""
        self.tokens += 1
        if self.first is None:
            self.first = time.perf_counter() - self._began

    def end(self) -> None:
        """All texts of a prompt are written."""
        self.seconds += time.perf_counter() - self._began

    def line(self) -> str:
        """As in "120 tokens in 1.5 s, 80 tokens/s, the first after 0.021 s"."""
        speed = f"{self.tokens} tokens in {self.seconds:.1f} s, {self.tokens / max(self.seconds, 1e-9):.0f} tokens/s"
        return speed if self.first is None else f"{speed}, the first after {self.first:.3f} s"


def print_samples(rows: TokenStream, prompt: str, samples: int, clock: GenerationTimer, probs: bool = False, gap: bool = False) -> None:
    """Print a prompt (bold on a terminal) and its continuation as it comes, then the other samples, a blank line between two."""
    held: list[list[TextChunk]] = [[] for _ in range(samples)]
    begun = False
    screen = word_wrapper()

    def begin() -> None:
        screen.add("\n\n" if begun or gap else "")
        screen.add(sanitize_chunk(prompt), BOLD if supports_color() else "")

    for row, piece in rows:  # a bad setting is told before anything is printed
        if not begun:
            begin()
            begun = True
        if piece.id is not None:
            clock.token()
        if row:
            held[row].append(piece)
        else:
            screen.add(*format_chunk(piece, probs))
    clock.end()
    if not begun:
        begin()
    screen.add("\n")
    begun = True
    for pieces in held[1:]:
        begin()
        for piece in pieces:
            screen.add(*format_chunk(piece, probs))
        screen.add("\n")


def word_wrapper() -> WordWrapper:
    """A writer to stdout that wraps text between words on a terminal; elsewhere the text is left unchanged."""
    return WordWrapper(
        lambda text: print(text, end="", flush=True),
        lambda: terminal_columns() if on_terminal() else None,
    )


def print_legend(stderr: bool = False) -> None:
    """Print what the colors of probabilities mean; in color on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    screen = WordWrapper(stream.write, lambda: terminal_columns() if terminal else None)
    for text, style in legend():
        screen.add(text, style if terminal else "")
    screen.add("\n")
    stream.flush()


def sanitize_chunk(text: str) -> str:
    """A text as it may be printed: a terminal gets no control characters."""
    return sanitize(text) if on_terminal() else text


def format_chunk(piece: TextChunk, probs: bool) -> tuple[str, str]:
    """The text of a piece and its ANSI style; with `probs`, the color of its probability, or the number where there are no colors."""
    text = sanitize_chunk(piece.text)
    if not probs:
        return text, ""
    if supports_color():
        return text, style_of(piece.logprob)
    return annotate(text, piece.logprob), ""


def supports_color() -> bool:
    """Whether stdout is a terminal that shows ANSI colors, and NO_COLOR is not set."""
    return on_terminal() and shows_colors(console())
