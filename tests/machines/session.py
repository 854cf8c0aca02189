"""The Python process of a simulated machine, which forks itself for each command.

It imports everything once.

So each command has its own process and starts quickly. Standard input is a list of
commands as JSON: {"words" of the command line, or a "program" of Python; "stdin"; "environment";
"columns" of its terminal, or null}. Standard output is a list with exit code, output and errors of
each.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import json
import os
import posix  # has fork on a machine whose `os` lacks it
import pty
import struct
import sys
import tempfile
import termios
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

from llm_scratch.storage.user_folders import set_library_folders

NEEDED = """
    llm_scratch.cli.commands.chat llm_scratch.cli.chat_commands llm_scratch.cli.commands.doctor
    llm_scratch.cli.commands.evaluate llm_scratch.cli.commands.export
    llm_scratch.cli.commands.generate llm_scratch.cli.commands.prepare_data llm_scratch.cli.progress
    llm_scratch.cli.commands.quantize llm_scratch.cli.commands.train llm_scratch.training.loop
    matplotlib.pyplot matplotlib.backends.backend_agg matplotlib.backends.backend_pdf
    torch._dynamo"""
END_OF_INPUT = b"\x04"


def start(command: dict[str, Any], files: list[int]) -> int:
    """Fork this process to run a command with these standard streams, and return the pid."""
    if pid := posix.fork():
        return pid
    if command["columns"]:
        os.setsid()
        fcntl.ioctl(files[0], termios.TIOCSCTTY, 0)
    sys.stdin, sys.stdout, sys.stderr = (
        take_stream(number, file) for number, file in enumerate(files)
    )
    os.environ.update(command["environment"])
    try:
        if command["program"]:
            exec(command["program"], {})
            code = 0
        else:
            from llm_scratch.cli import main

            code = main(command["words"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # as Python's exit, without the second that it takes to free all modules
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def take_stream(number: int, file: int) -> io.TextIOWrapper:
    """The standard stream of this descriptor over a file, in the machine's encoding."""
    old = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    os.dup2(file, number)
    mode, buffering = ("w", 1) if number else ("r", -1)
    return open(number, mode, buffering, encoding=old.encoding, errors=old.errors, closefd=False)


def run_with_pipes(command: dict[str, Any]) -> tuple[int, bytes, bytes]:
    """Run a command without a terminal; exit status, output, errors."""
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(command["stdin"].encode())
        stdin.seek(0)
        _, status = os.waitpid(
            start(command, [file.fileno() for file in (stdin, stdout, stderr)]), 0
        )
        stdout.seek(0)
        stderr.seek(0)
        return status, stdout.read(), stderr.read()


def run_on_terminal(command: dict[str, Any]) -> tuple[int, bytes, bytes]:
    """Run a command on a terminal; exit status, what the terminal received, and nothing."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, command["columns"], 0, 0))
    pid = start(command, [terminal] * 3)
    os.close(terminal)
    os.write(master, command["stdin"].encode() + END_OF_INPUT)
    received = b""
    with suppress(OSError):  # its end
        while piece := os.read(master, 1 << 16):
            received += piece
    os.close(master)
    return os.waitpid(pid, 0)[1], received, b""


def run(command: dict[str, Any]) -> dict[str, Any]:
    status, out_bytes, err_bytes = (run_on_terminal if command["columns"] else run_with_pipes)(
        command
    )
    out = out_bytes.decode(sys.__stdout__.encoding if command["columns"] else "utf-8", "replace")
    err = err_bytes.decode(sys.__stdout__.encoding, "replace")
    return {"code": os.waitstatus_to_exitcode(status), "out": out, "err": err}


if __name__ == "__main__":
    commands = json.loads(sys.stdin.read())
    set_library_folders()  # as `main` does before other imports
    for name in NEEDED.split():
        import_module(name)
    gc.collect()
    gc.freeze()  # the copies then leave this memory alone
    print(json.dumps([run(command) for command in commands]))
