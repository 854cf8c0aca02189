"""Print generated text while it is streamed, and measure tokens per second.

Tests: tests/cli/test_token_printer.py.
"""

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
from llm_scratch.formatting import MINUTE, format_duration, sanitize

if TYPE_CHECKING:
    from llm_scratch.generation.detokenizer import TextChunk


BOLD = "\x1b[1m"


@dataclass
class GenerationTimer:
    """Tokens and seconds of generation.

    Attributes:
        tokens: generated so far, over all prompts.
        seconds: spent generating, over all prompts.
        time_to_first_token: of the first prompt [seconds].
    """

    tokens: int = 0
    seconds: float = 0.0
    time_to_first_token: float | None = None
    _began: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Start the clock, before the prompt is read."""
        self._began = time.perf_counter()

    def on_token(self) -> None:
        """Count a token."""
        self.tokens += 1
        if self.time_to_first_token is None:
            self.time_to_first_token = time.perf_counter() - self._began

    def stop(self) -> None:
        """Stop the clock, after the last token of a prompt."""
        self.seconds += time.perf_counter() - self._began

    def summary(self) -> str:
        """One line, such as "120 tokens in 1.5 s, 80 tokens/s, the first after 0.021 s"."""
        is_long = self.seconds >= MINUTE
        seconds = format_duration(self.seconds) if is_long else f"{self.seconds:.1f} s"
        rate = self.tokens / max(self.seconds, 1e-9)
        digits = ".0f" if rate >= 1 else ".2g"
        speed = f"{self.tokens} tokens in {seconds}, {rate:{digits}} tokens/s"
        if self.time_to_first_token is None:
            return speed
        return f"{speed}, the first after {self.time_to_first_token:.3f} s"


def print_samples(
    rows: TokenStream,
    prompt: str,
    samples: int,
    timer: GenerationTimer,
    probs: bool = False,
    gap: bool = False,
) -> None:
    """Stream a prompt (bold on a terminal) and a continuation, then print other samples.

    Args:
        rows: what to print, as `DecodingFlags.generate` gives it.
        prompt: printed before each sample.
        samples: number of continuations.
        timer: counts the tokens; it is stopped after the last one.
        probs: show the probability of each token.
        gap: print an empty line first.
    """
    held: list[list[TextChunk]] = [[] for _ in range(samples)]
    begun = False
    screen = word_wrapper()

    def begin() -> None:
        screen.add("\n\n" if begun or gap else "")
        screen.add(sanitize_chunk(prompt), BOLD if supports_color() else "")

    for row, piece in rows:  # an invalid setting raises here, before anything is printed
        if not begun:
            begin()
            begun = True
        if piece.id is not None:
            timer.on_token()
        if row:
            held[row].append(piece)
        else:
            screen.add(*format_chunk(piece, probs))
    timer.stop()
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
    """A writer to stdout that wraps text between words on a terminal, and nowhere else."""
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
    """Replace control characters in text for a terminal; elsewhere it stays as it is."""
    return sanitize(text) if on_terminal() else text


def format_chunk(piece: TextChunk, probs: bool) -> tuple[str, str]:
    """The text of a piece and its ANSI style.

    With `probs`, the style is the color of its probability;
    without colors, the text ends with the number.
    """
    text = sanitize_chunk(piece.text)
    if not probs:
        return text, ""
    if supports_color():
        return text, style_of(piece.logprob)
    return annotate(text, piece.logprob), ""


def supports_color() -> bool:
    """Whether stdout is a terminal that shows ANSI colors, and NO_COLOR is not set."""
    return on_terminal() and shows_colors(console())
