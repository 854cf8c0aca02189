"""Commands work and exit with their code if standard streams are closed, missing or broken."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from llm_scratch.cli import BROKEN_PIPE, main
from llm_scratch.cli.streams import LenientStream, flush_standard_streams, open_standard_streams
from llm_scratch.cli.terminal import print_line
from llm_scratch.errors import DATA, RESOURCES, USAGE

posix = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs /dev/full, a file that is always full"
)


def shell(command):
    """Run a shell line in which LLM stands for the command and PY for Python.

    Output is buffered, as by default.
    """
    command = command.replace("LLM", f"{sys.executable} -m llm_scratch").replace(
        "PY", sys.executable
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=120, env=environment
    )


@posix
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("LLM config verdict >&-", 0, ""),
        ("LLM config verdict >&- 2>&- <&-", 0, ""),
        ("LLM train --help >&-", 0, ""),
        ("LLM nonsense >&-", USAGE, "llm-scratch: unknown command 'nonsense'"),
        ("LLM nonsense 2>&-", USAGE, ""),
        ("LLM tokenizer show nowhere - <&-", DATA, "llm-scratch: standard input: empty"),
        pytest.param(
            "LLM config verdict > /dev/full",
            RESOURCES,
            "llm-scratch: No space left on device",
            marks=full,
        ),
        pytest.param(
            "LLM --version > /dev/full",
            RESOURCES,
            "llm-scratch: No space left on device",
            marks=full,
        ),
        pytest.param(
            "LLM data list > /dev/full",
            RESOURCES,
            "llm-scratch: No space left on device",
            marks=full,
        ),
        pytest.param(
            "LLM train --help > /dev/full",
            RESOURCES,
            "llm-scratch: No space left on device",
            marks=full,
        ),
        pytest.param("LLM nonsense 2> /dev/full", USAGE, "", marks=full),
    ],
)
def test_command_exits_equally_with_closed_streams(command, code, error):
    done = shell(command)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == bool(error), done.stderr


@full
def test_message_that_cannot_be_written_does_not_fail_a_command(monkeypatch):
    monkeypatch.setattr("llm_scratch.cli._dispatch", lambda words: print_line("x", stderr=True))
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert main([]) == 0
        assert sys.stderr is stream


@posix
@pytest.mark.parametrize(
    "command", ["config verdict", "data list", "--help", "--version", "train --help"]
)
def test_command_exits_quietly_when_its_reader_closes(command):
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "llm_scratch", *command.split()]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        words, stdout=writer, stderr=subprocess.PIPE, timeout=120, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")


@posix
def test_output_to_a_closed_stream_is_not_written_into_a_later_file(tmp_path):
    """With stdout closed, the first opened file would get its descriptor."""
    shell(f"cd {tmp_path} && LLM tokenizer train stories:20 --vocab-size 300 --out t.json >&-")
    assert (tmp_path / "t.json").read_text(encoding="utf-8").startswith("{")
    assert '"version"' in (tmp_path / "t.json").read_text(encoding="utf-8")


@posix
def test_child_process_has_open_streams():
    code = (
        "import os, llm_scratch.cli.streams as s; s.open_standard_streams();"
        " os._exit(not all(map(os.get_inheritable, (0, 1, 2))))"
    )
    assert shell(f"PY -c '{code}' >&- 2>&- <&-").returncode == 0


def test_missing_streams_are_replaced(monkeypatch):
    """Simulate pythonw, which has no streams."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    open_standard_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        assert sys.stdin.read() == ""
        print("nowhere")
        print("nowhere", file=sys.stderr)
        assert main(["--version"]) == 0


class Broken(io.StringIO):
    """A stream that cannot be written; its name is that of no file."""

    def write(self, text):
        raise self.error

    flush = None

    def __init__(self, error):
        super().__init__()
        self.error, self.flush = error, lambda: self.write("")


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("I/O on closed file")],
)
def test_lenient_stream_discards_output_after_an_error(error, capsys):
    stream = LenientStream(Broken(error), "output stops")
    assert stream.write("one") == 3
    assert stream.write("two") == 3
    stream.flush()
    assert stream.broken
    assert capsys.readouterr().err == "output stops\n", "printed once"


def test_lenient_stream_writes_while_it_can(capsys):
    stream = LenientStream(sys.stdout, "output stops")
    stream.write("text")
    stream.flush()
    assert not stream.isatty()
    assert not stream.broken
    assert capsys.readouterr() == ("text", "")


def test_flush_returns_the_error_of_stdout(monkeypatch):
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert flush_standard_streams() is None, "output lost on stderr does not fail the command"
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert flush_standard_streams() is error
