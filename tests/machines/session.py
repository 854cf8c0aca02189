"""The process of a simulated machine: imports everything once, then runs each command in a copy of itself.

Reads from standard input a list of {"words", "stdin", "environment"} as JSON, and prints for each its exit code, output and errors.
A command is thus a process of its own that starts in a tenth of a second, and ends as any other does.
"""

import atexit
import gc
import io
import json
import os
import posix  # has fork on a machine whose `os` lacks it
import sys
import tempfile
import threading
from importlib import import_module

NEEDED = """
    llm_scratch.cli.train llm_scratch.cli.generate llm_scratch.cli.chat llm_scratch.cli.evaluate llm_scratch.cli.quantize
    llm_scratch.cli.prepare llm_scratch.cli.doctor llm_scratch.cli.export llm_scratch.cli.progress llm_scratch.training.loop
    matplotlib.pyplot matplotlib.backends.backend_agg matplotlib.backends.backend_pdf torch._dynamo"""


def take_stream(number: int, file: int, mode: str) -> io.TextIOWrapper:
    """The standard stream of this number, made again over a file with the encoding of the machine."""
    old = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    os.dup2(file, number)
    return open(number, mode, encoding=old.encoding, errors=old.errors, closefd=False)


def start(command: dict, streams: list) -> int:
    """Run one command in a copy of this process; its number."""
    if pid := posix.fork():
        return pid
    os.environ.update(command["environment"])
    sys.stdin, sys.stdout, sys.stderr = (take_stream(n, f.fileno(), "r" if n == 0 else "w") for n, f in enumerate(streams))
    from llm_scratch.cli import main

    code = main(command["words"])
    threading._shutdown()  # an exit as Python's own, but without a second for freeing all that was imported
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(command: dict) -> dict:
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(command["stdin"].encode())
        stdin.seek(0)
        code = os.waitstatus_to_exitcode(os.waitpid(start(command, [stdin, stdout, stderr]), 0)[1])
        texts = []
        for stream in (stdout, stderr):
            stream.seek(0)
            texts.append(stream.read().decode(sys.__stdout__.encoding, "replace"))
    return {"code": code, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    commands = json.loads(sys.stdin.read())
    for name in NEEDED.split():
        import_module(name)
    gc.collect()
    gc.freeze()  # a copy then leaves this memory alone
    print(json.dumps([run(command) for command in commands]))
