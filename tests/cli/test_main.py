"""The command line: fast help without torch, one line for every error, quiet pipes."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch import __version__, errors
from llm_scratch.cli import COMMANDS, format_error, main
from llm_scratch.errors import EXIT_CODES, UserError

HELP = """
import contextlib, io, sys
from llm_scratch.cli import COMMANDS, main
of_commands = [[*verb.split(), "--help"] for verb in COMMANDS]
for words in ([], ["--help"], ["--version"], ["data"], ["runs", "--help"], *of_commands):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(words) == 0, words
    assert out.getvalue().strip(), words
heavy = {"torch", "numpy", "transformers", "matplotlib", "tiktoken"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_imports_neither_torch_nor_numpy():
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_shows_two_examples_in_80_columns(verb, llm):
    result = llm(*verb.split(), "--help")
    assert result.code == 0
    examples = result.out.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(f"llm-scratch {verb}" in line for line in examples)
    assert max(map(len, result.out.splitlines()[1:])) <= 80


def test_every_example_can_be_parsed(llm, monkeypatch):
    Path("books").mkdir()  # `train text books/` checks that the folder exists
    for verb, (place, _) in COMMANDS.items():
        module, _, name = place.rpartition(".")
        command = getattr(import_module(f"llm_scratch.cli.{module}"), name)
        ran = []
        monkeypatch.setattr(command, "run", lambda self, ran=ran: ran.append(self))
        examples = (
            llm(*verb.split(), "--help")
            .out.partition("examples:\n")[2]
            .partition("\n\n")[0]
            .splitlines()
        )
        for line in examples:
            words = (
                line[line.index("llm-scratch ") :].removeprefix("llm-scratch ").partition(" >")[0]
            )
            if "--import" not in words:  # the file is the user's
                assert llm(*shlex.split(words)).code == 0, line
        assert ran, verb


def test_help_lists_every_command(llm):
    out = llm().out
    assert all(re.search(rf"^  {verb} ", out, re.M) for verb in COMMANDS)
    assert llm("help").out == llm("--help").out == out
    tokenizer = llm("tokenizer").out
    assert "tokenizer compare" in tokenizer
    assert "runs list" not in tokenizer
    assert llm("--version").out == f"llm-scratch {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("wrong\n  in two lines", 4), 4, "wrong in two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 6, "out of memory; try a smaller --train.batch-size"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
            ),
            6,
            "out of memory",
        ),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), 6, "out of memory"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            6,
            "runs/x: No space left on device",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            6,
            "No space left on device; free some space",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            6,
            "No usable temporary directory found in",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "x: Permission denied"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "unexpected ZeroDivisionError: division by zero; this is a bug",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_command_error_is_one_line(error, code, message, llm, monkeypatch):
    from llm_scratch.cli.commands.doctor import Doctor

    def run(self: Doctor) -> None:
        raise error

    monkeypatch.setattr(Doctor, "run", run)
    result = llm("doctor")
    assert result.code == code
    assert result.err.startswith(f"llm-scratch: {message}")
    assert result.err.count("\n") == 1
    assert format_error(error)[1] == code
    with pytest.raises(type(error)):
        llm("doctor", "--debug")


def test_out_of_memory_of_torch_is_one_line():
    import torch

    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 55)
    assert format_error(found.value)[1] == 6


def test_library_warning_is_one_line(llm, text_file):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as for a user, since a warning is an error in tests
        result = llm(
            "tokenizer", "train", f"file:{text_file}", "--vocab-size", "900", "--out", "t.json"
        )
    assert result.code == 0
    assert result.err.startswith("llm-scratch: warning: vocab_size=900: the text has pairs for ")
    assert result.err.count("\n") == 1


def test_closed_pipe_prints_nothing():
    words = [sys.executable, "-m", "llm_scratch", "config", "verdict"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        command.stdout.close()
        assert command.stderr is not None
        assert command.stderr.read() == b""
        assert command.wait(timeout=PATIENCE_SECONDS) == 141


def test_terminal_without_unicode_and_colors_gets_lookalikes():
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONIOENCODING": "ascii",
        "NO_COLOR": "1",
        "COLUMNS": "80",
    }
    for words in (["generate", "--help"], ["train", "quikstart"]):
        done = subprocess.run(
            [sys.executable, "-m", "llm_scratch", *words],
            env=environment,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
        (done.stdout + done.stderr).decode("ascii")


@pytest.mark.skipif(
    os.name == "nt", reason="Windows does not remove the working folder of a process"
)
def test_removed_working_folder_is_one_line(llm, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = llm("runs", "list")
    assert (result.code, result.err) == (
        6,
        "llm-scratch: working directory: it no longer exists; change to an existing one\n",
    )
    assert llm("--help").code == 0


def test_path_of_an_unknown_user_is_one_line(llm):
    result = llm("train", "quickstart", "--data.source", "file:~nobody-of-that-name/x.txt")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert (
        "~nobody-of-that-name/x.txt: unknown home folder; write the full path, or set HOME"
        in result.err
    )


@pytest.mark.parametrize(
    ("rank", "size", "prefix"),
    [
        ("1", "2", "llm-scratch, process 1 of 2: "),
        ("0", "1", "llm-scratch: "),
        ("", "2", "llm-scratch: "),
        ("x", "many", "llm-scratch: "),
    ],
)
def test_error_of_a_distributed_job_names_the_rank(rank, size, prefix, llm, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert llm("nonsense").err.startswith(f"{prefix}unknown command")


def test_main_uses_sys_argv_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llm-scratch", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out


def test_help_lists_every_exit_code(llm):
    listed = llm("--help").out.partition("exit codes:\n")[2].partition("\n\n")[0].splitlines()
    assert [int(line.split()[0]) for line in listed] == list(EXIT_CODES)
    codes = {
        value
        for name, value in vars(errors).items()
        if name.isupper() and not name.startswith("MAX_") and isinstance(value, int)
    }
    assert codes | {0} == set(EXIT_CODES), "each has a meaning"
    assert max(map(len, listed)) <= 80
