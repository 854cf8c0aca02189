"""Output of characters that the encoding of a stream lacks."""

from __future__ import annotations

import io

import pytest

from llm_scratch.cli import main
from llm_scratch.cli.encoding import use_lookalikes, write_files_as_utf8


class Terminal(io.BytesIO):
    """Bytes that a terminal gets."""

    def isatty(self) -> bool:
        return True


def stream(encoding: str, data: bytes = b"", terminal: bool = False) -> io.TextIOWrapper:
    return io.TextIOWrapper(Terminal(data) if terminal else io.BytesIO(data), encoding=encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    ("name", "terminal"), [("stdout", True), ("stderr", True), ("stderr", False)]
)
def test_terminals_and_errors_have_lookalikes_for_characters_that_the_encoding_lacks(
    encoding, name, terminal, monkeypatch
):
    out = stream(encoding, terminal=terminal)
    monkeypatch.setattr(f"sys.{name}", out)
    use_lookalikes()
    write_files_as_utf8()
    out.write("✓ a → b\n✗ 你好 ≥ 1")
    out.flush()
    assert out.buffer.getvalue() == b"+ a > b\nx ?? > 1"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_file_output_is_utf8_in_every_encoding(encoding, monkeypatch):
    out = stream(encoding)
    monkeypatch.setattr("sys.stdout", out)
    use_lookalikes()
    write_files_as_utf8()
    text = "می\u200cخواهم क्\u200dष 日本語\u3000文 👩\u200d👩\u200d👧 ❤\ufe0f ✓"
    out.write(text + "\ud800")
    out.flush()
    assert out.buffer.getvalue().decode() == text + "?"


def test_command_output_to_a_file_is_complete(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("می\u200cخواهم 日本語", encoding="utf-8")
    out = stream("cp1252")
    monkeypatch.setattr("sys.stdout", out)
    assert main(["data", "show", f"file:{tmp_path / 'a.txt'}"]) == 0
    out.flush()
    assert "می\u200cخواهم 日本語" in out.buffer.getvalue().decode()


def test_utf8_terminal_gets_every_character(monkeypatch):
    out = stream("utf-8", terminal=True)
    monkeypatch.setattr("sys.stdout", out)
    use_lookalikes()
    write_files_as_utf8()
    out.write("✓ 你好")
    out.flush()
    assert out.buffer.getvalue().decode() == "✓ 你好"


def test_input_from_a_pipe_is_utf8_with_replacements(monkeypatch):
    monkeypatch.setattr("sys.stdin", stream("cp1252", "the hen → \n".encode() + b"the \x81 fox\n"))
    use_lookalikes()
    assert (input(), input()) == ("the hen → ", "the \ufffd fox")
