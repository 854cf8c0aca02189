"""Run contenders one at a time in their own processes: what the benchmarks share.

Each contender has its own process, and with it its own allocator, threads and peak memory. All of
them run a few steps in each round, so a busy moment of the machine affects all of them equally.
Ratios are taken per round.
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
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import IO, Any, TypeVar

Answer = TypeVar("Answer")


class ContenderEndedError(Exception):
    """The process of a contender ended while it was measured."""


class Contenders:
    """Contender processes that wait for requests.

    Attributes:
        names: contenders that run on this machine.
        missing: the others, each with the reason.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.missing: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._errors: dict[str, IO[str]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start a contender and wait for its warm-up; if it exits, add it to `missing`."""
        errors = self._errors[name] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        process = self._processes[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        if process.stdout.readline():
            self.names.append(name)
        else:
            self._record_end(name)

    def __call__(self, name: str, question: Any) -> dict[str, Any]:
        """Send one line of JSON to a contender and return its answer, one line of JSON.

        Raises:
            ContenderEndedError: its process ended; the reason is in `missing`.
        """
        process = self._processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        answer = ""
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.names.remove(name)
        self._record_end(name)
        raise ContenderEndedError(name)

    def rounds(self, count: int, measure: Callable[[str], Answer]) -> dict[str, list[Answer]]:
        """Measure all contenders in turn, several times.

        Args:
            count: number of rounds.
            measure: takes a contender's name and asks it.
        Returns:
            What `measure` returned, by contender, without those that ended meanwhile.
        """
        answers: dict[str, list[Answer]] = {name: [] for name in self.names}
        for _ in range(count):
            for name in list(answers):
                try:
                    answers[name].append(measure(name))
                except ContenderEndedError:
                    del answers[name]
        return answers

    def _record_end(self, name: str) -> None:
        """Add a contender that ended to `missing`, with the last line that it wrote on stderr."""
        code, errors = self._processes[name].wait(), self._errors[name]
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
        self.missing[name] = lines[-1] if lines else f"ended with exit code {code}"
        print(f"{name} does not run here: {self.missing[name]}", flush=True)

    def stop(self) -> None:
        """Kill all processes."""
        for name, process in self._processes.items():
            process.kill()
            process.communicate()  # waits for its end and closes its streams
            self._errors[name].close()


@contextmanager
def contenders(names: list[str], command: Callable[[str], list[str]]) -> Iterator[Contenders]:
    """Start `python THIS_BENCHMARK command(name)` for each name.

    A contender that cannot run here is printed with the reason; the others are measured.
    """
    script, started = os.path.abspath(sys.argv[0]), Contenders()
    try:
        for name in names:  # one after the other: a warm-up must not disturb a measurement
            started.start(name, [sys.executable, script, *command(name)])
        yield started
    finally:
        started.stop()


def answering(answer: Callable[[Any], dict[str, Any]]) -> None:
    """Answer each line of JSON on stdin by one on stdout; called by a contender when it is warm."""
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def ratio(slow: list[float], fast: list[float]) -> tuple[float, list[float]]:
    """Return the speedup: the median over rounds of slow / fast, and its [lowest, highest]."""
    each = [a / b for a, b in zip(slow, fast)]
    return round(statistics.median(each), 2), [round(min(each), 2), round(max(each), 2)]


def where(device: str = "cpu") -> dict[str, Any]:
    """Describe the environment: commit, machine, instruction set seen by torch, and versions."""
    import torch

    from llm_scratch.hardware.trials import ISA_VARIABLES

    here = os.path.dirname(os.path.abspath(__file__))
    commit = ""
    with suppress(OSError):  # no git
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
