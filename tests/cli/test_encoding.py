"""What standard streams do with characters that their encoding lacks."""

from __future__ import annotations

import io

import pytest

from llm_scratch.cli.encoding import use_lookalikes


def stream(encoding: str, data: bytes = b"") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_has_lookalikes_for_characters_that_the_encoding_lacks(encoding, monkeypatch):
    out = stream(encoding)
    monkeypatch.setattr("sys.stdout", out)
    use_lookalikes()
    out.write("✓ a → b\n✗ 你好 ≥ 1")
    out.flush()
    assert out.buffer.getvalue() == b"+ a > b\nx ?? > 1"


def test_output_is_unchanged_when_the_encoding_has_every_character(monkeypatch):
    out = stream("utf-8")
    monkeypatch.setattr("sys.stdout", out)
    use_lookalikes()
    out.write("✓ 你好")
    out.flush()
    assert out.buffer.getvalue().decode() == "✓ 你好"


def test_input_from_a_pipe_is_utf8_with_replacements(monkeypatch):
    monkeypatch.setattr("sys.stdin", stream("cp1252", "the hen → \n".encode() + b"the \x81 fox\n"))
    use_lookalikes()
    assert (input(), input()) == ("the hen → ", "the \ufffd fox")
