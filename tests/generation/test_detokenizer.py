"""Streamed text has complete characters for any split of its bytes.

Stop strings are found across chunks, and nothing is lost.
"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_scratch.errors import UserError
from llm_scratch.generation.detokenizer import StreamingDetokenizer

TEXT = "狐は走った。🦊🏃‍♀️ né ☃ 한국어 👩‍👩‍👧‍👦 é 𠜎 z"


class Cuts:
    """A tokenizer whose token i is the i-th piece of a cut byte string."""

    def __init__(self, parts):
        self.parts = parts

    def decode_bytes(self, ids):
        return b"".join(self.parts[i] for i in ids)


def written(parts, **settings):
    """The chunks of text that the detokenizer returns for these tokens, in order."""
    parts = [b"", *parts]
    writer, pieces = StreamingDetokenizer(Cuts(parts), 0, **settings), []
    for token in range(1, len(parts)):
        if not writer.done:
            pieces.append(writer.push(token))
    return pieces if writer.done else [*pieces, writer.flush()]


def cut(data, places):
    return [data[a:b] for a, b in pairwise([0, *sorted(places), len(data)])]


def test_s18_10000_random_splits_show_no_broken_character(measured):
    chance, data = random.Random(18), TEXT.encode()
    broken = 0
    for _ in range(10_000):
        parts = cut(data, chance.sample(range(1, len(data)), chance.randrange(1, 40)))
        pieces = written(parts)
        broken += sum("\ufffd" in piece for piece in pieces)
        assert "".join(pieces) == TEXT
    assert broken == 0
    measured(
        "S18",
        f"{broken} U+FFFD in 10,000 random splits; every joined text is complete",
        "0 U+FFFD for valid text; joined chunks = full text",
    )


@given(st.binary(max_size=60), st.data())
def test_invalid_bytes_are_streamed_as_decode_shows_them(data, draw):
    places = draw.draw(st.sets(st.integers(0, len(data))))
    assert "".join(written(cut(data, places))) == data.decode(errors="replace")


@given(
    st.text("ab🦊.\n", max_size=30),
    st.lists(st.text("ab🦊.\n", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_stop_string_is_found_at_any_chunk_boundary(text, stop, draw):
    data = text.encode()
    places = draw.draw(st.sets(st.integers(0, len(data))))
    pieces = written(cut(data, places), stop=stop)
    # the reference: the shortest beginning of the text that holds a stop string, without it
    for end in range(len(text) + 1):
        hits = [text[:end].find(s) for s in stop if s in text[:end]]
        if hits:
            break
    ends = {text[: text.find(s)] for s in stop if s in text} or {text}
    assert "".join(pieces) in ends
    if len(places) >= len(data) - 1:  # byte by byte: the stop string that is complete first
        assert "".join(pieces) == (text[: min(hits)] if hits else text)


def test_stop_string_is_hidden_and_its_false_start_is_shown():
    assert written([b"Hi", b"\n", b"You", b": no"], stop=["\nYou:"]) == ["Hi", "", "", ""]
    assert written([b"Hi", b"\n", b"Yo", b"-yo"], stop=["\nYou:"]) == ["Hi", "", "", "\nYo-yo", ""]
    assert written([b"Hi", b"\n", b"Yo"], stop=["\nYou:"]) == ["Hi", "", "", "\nYo"]


def test_flush_returns_the_buffered_text():
    writer = StreamingDetokenizer(
        Cuts([b"", b"a\n", b"\xf0\x9f", b"<eot>"]), 0, ends={3}, stop=["\n\n"]
    )
    assert [writer.push(1), writer.push(2), writer.push(3)] == ["a", "\n" * 0, "\n\ufffd"]
    assert writer.done
    goes_on = StreamingDetokenizer(
        Cuts([b"", b"a", b"b", b"<eot>"]), 0, ends={3}, stop_at_eot=False
    )
    assert [goes_on.push(1), goes_on.push(3), goes_on.push(2)] == ["a", "", "b"]


def test_empty_stop_string_is_refused():
    with pytest.raises(UserError, match="stop string is empty"):
        StreamingDetokenizer(Cuts([]), 0, stop=["x", ""])
