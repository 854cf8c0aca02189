"""Time alternative implementations on this machine, and cache the measurements on disk.

A processor's name does not determine what is fast on it, so each candidate is timed once on a small
case. The timings are stored in the cache folder, as a choice that changed between starts would
change the last bits of results. The file name depends on processor, torch and size, so another
machine measures again.
Tests: tests/hardware/test_trials.py. Timings of this machine: `llm-scratch doctor`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from llm_scratch.errors import UserError
from llm_scratch.hardware.thread_timer import thread_seconds, use_threads
from llm_scratch.storage.download import cache_folder
from llm_scratch.storage.files import atomic_write

PROMPT_ROWS = 256  # a typical text to generate: a prompt of 256 tokens, read at once ...
NEW_TOKENS = 200  # ... and 200 tokens, one by one
N_ROUNDS = 6  # in which each candidate is timed
N_TOKEN_ROUNDS = 20
"""rounds for the product of a new token on all threads: they must all run at once in one of them"""
MAX_SLOWDOWN = 4  # times the best after two rounds; slower candidates are no longer timed
LONG_CALL_SECONDS = 0.5
"""A call this long is not repeated: noise averages out within it, and a trial must end soon on a
slow processor too. Emulated, all repetitions of `doctor` took more than half an hour."""
ISA_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "FBGEMM_ENABLE_INSTRUCTIONS",
)
"""environment variables that limit which instructions the libraries use"""

Seconds = dict[str, float]
"""seconds by the name of a candidate; infinite if the candidate does not work here"""


def cached_timings(
    question: str,
    candidates: Sequence[str],
    depends_on: Sequence[object],
    measure: Callable[[], Seconds],
    required: Sequence[str] = (),
) -> Seconds:
    """Measure the first time, and read the timings from the cache folder afterwards.

    Args:
        question: a description of the measurement.
        candidates: the names of what is measured.
        depends_on: sizes and other facts that determine the answer,
            in addition to processor and torch.
        measure: does the measurement.
        required: candidates of which one must work for the timings to be stored (default: all).
    Returns:
        Seconds by the name of a candidate. If the file is damaged or cannot be written, the next
        process measures again.
    """
    key = (question, *candidates, *map(str, depends_on), torch.__version__, processor())
    if key not in _answers:
        path = _folder() / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.json"
        seconds = _read(path, key, candidates)
        if seconds is None:
            seconds = measure()
            # else something may be missing only today, such as a compiler
            if min(seconds[name] for name in required or seconds) < float("inf"):
                with suppress(UserError, OSError):  # the cache is optional
                    atomic_write(path, json.dumps({"key": key, "seconds": seconds}, indent=1))
        _answers[key] = seconds
    return _answers[key]


_answers: dict[tuple[str, ...], Seconds] = {}


def clear_timings() -> None:
    """Delete all stored timings, so that the next use measures again."""
    _answers.clear()
    for path in _folder().glob("*.json"):
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "trials"


def _read(path: Path, key: tuple[str, ...], candidates: Sequence[str]) -> Seconds | None:
    """The seconds in a file, if they are possible times of these candidates for this key."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        seconds = {str(name): float(value) for name, value in data["seconds"].items()}
        if tuple(data["key"]) != key or set(seconds) != set(candidates):
            return None
        has_a_working_one = min(seconds.values()) < float("inf")
        return seconds if has_a_working_one and all(s > 0 for s in seconds.values()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@cache
def processor() -> str:
    """Identify the processor and the instruction sets that libraries may use."""
    limits = [f"{name}={os.environ[name]}" for name in ISA_VARIABLES if name in os.environ]
    wanted = "model name", "flags", "features", "cpu part"
    facts = [platform.machine(), platform.processor()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        facts += [
            next((line for line in lines if line.lower().startswith(name)), "") for name in wanted
        ]
    return " ".join([*facts, torch.backends.cpu.get_cpu_capability(), *limits])


Candidates = Mapping[str, Sequence[Callable[[], object]]]
"""name -> calls: the same work on several matrices, so that no processor cache holds all of them"""


def time_interleaved(
    candidates: Candidates, n_threads: int = 1, n_rounds: int = N_ROUNDS
) -> Seconds:
    """Processor seconds of this thread for each candidate: the shortest of all interleaved calls.

    With several threads it is this thread's share of the work; waiting for the others counts only
    where threads wait in a loop. A candidate that raises an error does not work here: its time is
    infinite. One that takes `LONG_CALL_SECONDS` is called twice in all: the first call may include
    preparations.
    """
    with use_threads(n_threads):
        best = {name: _shortest([calls[0], *calls]) for name, calls in candidates.items()}
        for turn in range(n_rounds):
            for name, calls in candidates.items():
                is_slow = turn >= 2 and best[name] > MAX_SLOWDOWN * min(best.values())
                if best[name] < LONG_CALL_SECONDS and not is_slow:
                    best[name] = min(best[name], _shortest(calls))
    return best


def _shortest(calls: Sequence[Callable[[], object]]) -> float:
    """Seconds of the shortest call, of two if both are long; infinite if one raises."""
    shortest = float("inf")
    try:
        for number, call in enumerate(calls):
            if number < 2 or shortest < LONG_CALL_SECONDS:
                shortest = min(shortest, thread_seconds(call))
    except (RuntimeError, NotImplementedError):
        return float("inf")
    return shortest


def text_seconds(one_row: Candidates, prompt: Candidates) -> Seconds:
    """Seconds that a typical text spends in a layer, for each candidate implementation.

    The text is `PROMPT_ROWS` rows at once, then `NEW_TOKENS` alone. All threads compute, as in the
    model: some libraries multiply a single row on one thread only, and others share it.

    Args:
        one_row, prompt: for each candidate, the product of one row, or of `PROMPT_ROWS` rows, with
            several matrices.
    """
    tokens, prompts = time_tokens(one_row), time_interleaved(prompt, torch.get_num_threads())
    return {name: NEW_TOKENS * tokens[name] + prompts[name] for name in one_row}


def time_tokens(one_row: Candidates) -> Seconds:
    """`time_interleaved` for products of one row, on all threads that torch uses."""
    return time_interleaved(one_row, torch.get_num_threads(), N_TOKEN_ROUNDS)
