"""Streamed text is wrapped between words, however it is split into chunks."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from llm_scratch.cli.word_wrap import MAX_HELD_COLUMNS, WordWrapper, breaks_between, wrap

STORY = (
    "The quick brown fox, whose name is Anna-Louise,"
    " jumps over the extraordinarily lazy dog again and again.\n\n  It  sleeps."
)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def streamed(pieces, columns):
    """The output after each chunk, and at the end."""
    written = []
    wrapper = WordWrapper(written.append, lambda: columns)
    after = []
    for piece in pieces:
        wrapper.add(piece)
        after.append("".join(written))
    wrapper.end()
    return after, "".join(written)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("columns", [17, 20, 33, 40, 80])
def test_wrapped_lines_fit_and_no_word_is_broken(columns, size):
    pieces = [STORY[at : at + size] for at in range(0, len(STORY), size)]
    _, written = streamed(pieces, columns)
    lines = written.split("\n")
    assert max(map(cell_len, lines)) <= columns
    assert written.split() == STORY.split()
    assert "\n\n  It  sleeps." in written
    if columns < 80:
        assert len(lines) > 4


def test_word_is_buffered_only_near_the_edge():
    start = "x" * 8 + " "
    after, written = streamed(
        [start, "some", "thing", " else", "where", " now"], len(start) + MAX_HELD_COLUMNS
    )
    assert after[:3] == [start, start + "some", start + "something"]
    assert after[3] == start + "something ", "a word that may not fit is buffered"
    assert written == start + "something elsewhere now"


def test_buffered_word_that_does_not_fit_moves_to_the_next_line():
    after, _ = streamed(["aaaaaa ", "bb", "bbb"], 10)
    assert after == ["aaaaaa ", "aaaaaa ", "aaaaaa \nbbbbb"]


def test_word_longer_than_a_line_is_not_wrapped():
    _, written = streamed(["a ", "b" * 25, " c"], 10)
    assert written == "a \n" + "b" * 25 + " c"
    _, written = streamed(["b" * 25, " cccccc"], 10)
    assert written == "b" * 25 + " \ncccccc"


def test_text_is_not_wrapped_off_a_terminal():
    for size in (1, 9):
        pieces = [STORY[at : at + size] for at in range(0, len(STORY), size)]
        after, written = streamed(pieces, None)
        assert written == STORY
        assert after[0] == pieces[0]


@pytest.mark.parametrize("columns", [5, 8, 9])
def test_wide_characters_count_two_columns_and_may_be_broken_between(columns):
    text = "天地玄黃宇宙洪荒日月盈昃"
    _, written = streamed(list(text), columns)
    assert written.replace("\n", "") == text
    assert {cell_len(line) for line in written.split("\n")[:-1]} == {columns // 2 * 2}


def test_closing_punctuation_does_not_begin_a_line():
    _, written = streamed(list("天地玄黃。宇"), 8)
    assert written == "天地玄\n黃。宇"


@pytest.mark.parametrize("cluster", [FAMILY, "👍🏽", "か\u3099", "e\u0301" * 3, "नमस्ते"])
def test_wrap_keeps_joined_characters_together(cluster):
    for columns in range(2, 9):
        _, written = streamed([char for _ in range(4) for char in cluster + " "], columns)
        assert written.split() == [cluster] * 4
    assert not any(breaks_between(*pair) for pair in zip(cluster, cluster[1:], strict=False))


def test_zero_width_marks_take_no_columns():
    _, written = streamed(["e\u0301" * 4 + " " + "e\u0301" * 5], 10)
    assert "\n" not in written


def test_tab_extends_to_the_next_multiple_of_eight():
    assert streamed(["a\tbcd"], 11)[1] == "a\tbcd"
    assert streamed(["a\tbcd"], 10)[1] == "a\t\nbcd"


def test_style_ends_at_each_line_break():
    written = []
    wrapper = WordWrapper(written.append, lambda: 8)
    wrapper.add("one two three", "\x1b[1m")
    wrapper.add("four")
    wrapper.end()
    text = "".join(written)
    assert re.sub(r"\x1b\[\d*m", "", text) == "one two \nthreefour"
    assert "\x1b[1mone two \x1b[0m\n" in text
    assert text.endswith("four")
    unwrapped = []
    WordWrapper(unwrapped.append, lambda: None).add("a\n\nb", "\x1b[1m")
    assert unwrapped == ["\x1b[1ma\x1b[0m\n\n\x1b[1mb\x1b[0m"]


def test_wrapping_follows_the_width_of_the_terminal():
    width, written = [20], []
    wrapper = WordWrapper(written.append, lambda: width[0])
    wrapper.add("one two three four ")
    width[0] = 9
    wrapper.add("\none two three")
    wrapper.end()
    assert "".join(written) == "one two three four \none two \nthree"


def test_wrap_keeps_a_command_on_one_line_if_it_fits():
    assert wrap("see `a b c` for it", 9) == "see\n`a b c`\nfor it"
    assert wrap("see `a b c` for it", 5) == "see\n`a b\nc`\nfor\nit"
    assert wrap("short", 80) == "short"
