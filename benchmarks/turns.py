"""Contenders that take turns, each in a process of its own: how the benchmarks here compare.

A process has its own allocator, threads and peak memory, so contenders do not help or hurt each
other; they work one at a time, a little each round, so that a busy moment of the machine meets all
of them; and a ratio is taken round by round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any


class Contenders:
    """Processes that wait for questions.

    `names`: those that run here; `missing`: the others, each with the reason.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.missing: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start a contender and wait until it is warm; one that ends instead is `missing`."""
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            self._processes[name] = process
            assert process.stdout is not None
            if process.stdout.readline():
                self.names.append(name)
                return
            process.wait()
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
        self.missing[name] = lines[-1] if lines else f"ended with exit code {process.returncode}"
        print(f"{name} does not run here: {self.missing[name]}", flush=True)

    def __call__(self, name: str, question: Any) -> dict[str, Any]:
        """Send a line of JSON and wait for one."""
        process = self._processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"the contender {name} ended while it was measured")
        return json.loads(answer)

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextmanager
def contenders(names: list[str], command: Callable[[str], list[str]]) -> Iterator[Contenders]:
    """Start `python THIS_BENCHMARK command(name)` for each name.

    `ask(name, question)` sends a line of JSON and waits for one.

    A contender that cannot run here is named with the reason, and the others are measured.
    """
    script, started = os.path.abspath(sys.argv[0]), Contenders()
    try:
        for name in names:  # one after the other: who warms up must not meet those who are measured
            started.start(name, [sys.executable, script, *command(name)])
        yield started
    finally:
        started.stop()


def answering(answer: Callable[[Any], dict[str, Any]]) -> None:
    """A contender's side, once it is warm: a question a line of stdin, an answer of stdout."""
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def ratio(slow: list[float], fast: list[float]) -> tuple[float, list[float]]:
    """How many times as fast: the median over the rounds of seconds, and the lowest and highest."""
    each = [a / b for a, b in zip(slow, fast)]
    return round(statistics.median(each), 2), [round(min(each), 2), round(max(each), 2)]


def where(device: str = "cpu") -> dict[str, Any]:
    """Commit, machine, what its processor can do as torch sees it, and versions."""
    import torch

    from llm_scratch.hardware.trials import ISA_VARIABLES

    here = os.path.dirname(os.path.abspath(__file__))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True
    ).stdout.strip()
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = platform.processor() or platform.machine()
    versions = {
        "torch": torch.__version__,
        "transformers": version_of("transformers"),
        "python": platform.python_version(),
    }
    limits = {key: os.environ[key] for key in ISA_VARIABLES if key in os.environ}
    isa = {"cpu_capability": torch.backends.cpu.get_cpu_capability(), **limits}
    return {
        "commit": commit,
        "machine": name,
        **isa,
        "threads": torch.get_num_threads(),
        **versions,
    }


def version_of(package: str) -> str | None:
    """The installed version of a package; None without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
