"""Contenders that take turns, each in a process of its own: how the benchmarks here compare.

A process has its own allocator, threads and peak memory, so contenders do not help or hurt each other; they work one at a time, a little
each round, so that a busy moment of the machine meets all of them; and a ratio is taken round by round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Ask = Callable[[str, Any], dict[str, Any]]


@contextmanager
def contenders(names: list[str], command: Callable[[str], list[str]]) -> Iterator[Ask]:
    """Start `python THIS_BENCHMARK command(name)` for each name; `ask(name, question)` sends a line of JSON and waits for one."""
    script = os.path.abspath(sys.argv[0])
    processes: dict[str, subprocess.Popen[str]] = {}

    def read(name: str) -> dict[str, Any]:
        stdout = processes[name].stdout
        answer = stdout.readline() if stdout else ""
        if not answer:
            raise SystemExit(f"the contender {name} ended; its error stands above")
        return json.loads(answer)

    def ask(name: str, question: Any) -> dict[str, Any]:
        stdin = processes[name].stdin
        assert stdin is not None
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        return read(name)

    try:
        for name in names:  # one after the other: who warms up must not meet those who are measured
            arguments = [sys.executable, script, *command(name)]
            processes[name] = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            read(name)
        yield ask
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def answering(answer: Callable[[Any], dict[str, Any]]) -> None:
    """A contender's side, once it is warm: each line of stdin is a question, each answer a line of stdout."""
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def ratio(slow: list[float], fast: list[float]) -> tuple[float, list[float]]:
    """How many times as fast: the median over the rounds of seconds, and the lowest and highest."""
    each = [a / b for a, b in zip(slow, fast)]
    return round(statistics.median(each), 2), [round(min(each), 2), round(max(each), 2)]


def where(device: str = "cpu") -> dict[str, Any]:
    """Commit, machine and versions."""
    import torch
    import transformers

    here = os.path.dirname(os.path.abspath(__file__))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
    return {"commit": commit, "machine": name, "threads": torch.get_num_threads(), **versions}
