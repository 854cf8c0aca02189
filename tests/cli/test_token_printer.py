"""Generated text: the first sample is streamed, the others follow it.

Tokens and seconds are counted.
"""

from __future__ import annotations

import re
import sys
from math import log

import pytest

from llm_scratch.cli.token_printer import GenerationTimer, format_chunk, print_samples
from llm_scratch.generation.detokenizer import TextChunk


def test_first_sample_is_streamed_and_the_others_follow(capsys):
    seen, timer = [], GenerationTimer()

    def rows():
        for row, text in [(0, "A"), (1, "x"), (0, "B"), (1, "y"), (0, "C")]:
            yield row, TextChunk(text, 7)
            seen.append(capsys.readouterr().out)

    timer.start()
    print_samples(rows(), "p:", 2, timer)
    assert seen == ["p:A", "", "B", "", "C"]
    assert capsys.readouterr().out == "\n\n\np:xy\n"
    assert re.fullmatch(
        r"5 tokens in \d+\.\d s, \d+ tokens/s, the first after \d\.\d{3} s", timer.summary()
    )


def test_timer_gives_long_times_in_words():
    timer = GenerationTimer(tokens=60, seconds=1054.8)
    assert timer.summary() == "60 tokens in 17 min 35 s, 0.057 tokens/s"


def test_timer_counts_tokens_only(capsys):
    timer = GenerationTimer()
    print_samples(iter([(0, TextChunk("a", 1)), (0, TextChunk("!"))]), "p", 1, timer)
    print_samples(iter([]), "q", 1, timer, gap=True)
    assert capsys.readouterr().out == "pa!\n\n\nq\n"
    assert timer.tokens == 1


@pytest.mark.parametrize(
    ("no_color", "text"), [("", ("fox", "\x1b[38;5;16;48;5;157m")), ("1", ("fox{25%}", ""))]
)
def test_probabilities_are_numbers_without_colors(no_color, text, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in {"NO_COLOR": no_color, "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert format_chunk(TextChunk("fox", 1, log(0.25)), probs=True) == text
