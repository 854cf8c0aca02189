"""Speed with threads that wait in a loop and with threads that sleep, beside busy programs.

    python benchmarks/waiting_threads.py [--neighbors 0 1 2] [--rounds 5]

A training step of the size 4x128 of `train.py`, and the generation of a token by the same model.
Each contender is a process: `loop` is OpenMP's default, `sleep` has OMP_WAIT_POLICY=passive, as the
command line sets it beside busy programs (hardware/waiting_threads.py). A neighbor is an endless
loop in a process of its own.
Times are means of 40 steps or 400 tokens, then medians over the rounds; a ratio is the median over
the rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from interleaved import answering, contenders, ratio, where
from train import SIZES, ours

CONTENDERS = ("loop", "sleep")
SIZE = "4x128"
MEASURED = ("training step", "token")


def token_step() -> Callable[[], Any]:
    """Generation of one token by a model of the size, without its sampling."""
    import torch

    from llm_scratch.model.gpt import GPTModel
    from llm_scratch.model.packed import pack

    vocabulary, context, width, heads, layers, *_ = SIZES[SIZE]
    cfg = {
        "vocab_size": vocabulary,
        "context_length": context,
        "emb_dim": width,
        "n_heads": heads,
        "n_layers": layers,
        "drop_rate": 0.0,
        "qkv_bias": True,
    }
    model = GPTModel(cfg).eval()
    pack(model)
    ids = torch.zeros(1, 1, dtype=torch.long)
    cache = model.new_cache(1)

    def step() -> None:
        if not cache.remaining:
            cache.rewind(0)
        with torch.inference_mode():
            model(ids, cache=cache)

    return step


def work(name: str) -> None:
    """A contender's process: answers with the mean times of as many steps as it is asked for."""
    os.environ.pop("OMP_WAIT_POLICY", None)
    if name == "sleep":
        os.environ["OMP_WAIT_POLICY"] = "passive"
    steps = [ours(SIZES[SIZE], "float32", "cpu")[0], token_step()]  # imports torch

    def mean_time(step: Callable[[], Any], count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - began) / count

    for step in steps:
        mean_time(step, 20)
    answering(
        lambda count: {
            what: mean_time(step, count * times)
            for what, step, times in zip(MEASURED, steps, (1, 10))
        }
    )


@contextmanager
def neighbors(count: int) -> Iterator[None]:
    """Keep a number of processors busy by endless loops."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(count: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by contender and by what is measured, one number a round, beside busy neighbors."""
    with contenders(list(CONTENDERS), lambda name: ["--work", name]) as ask, neighbors(count):
        answers = ask.rounds(rounds, lambda name: ask(name, 40))
    return {
        name: {what: [row[what] for row in rows] for what in MEASURED}
        for name, rows in answers.items()
    }


def table(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Print a row for each contender; returns the same numbers."""
    report: dict[str, Any] = {what: {} for what in MEASURED}
    print(f"{'':8}" + "".join(f"{what + ', ms':>19}{'over loop':>22}" for what in MEASURED))
    for name, row in times.items():
        cells = ""
        for what, seconds in row.items():
            milliseconds = 1e3 * statistics.median(seconds)
            speedup, (low, high) = ratio(times["loop"][what], seconds)
            report[what][name] = {"ms": round(milliseconds, 3), "x": speedup}
            cells += f"{milliseconds:19.3f}{speedup:8.2f} [{low:.2f}, {high:.2f}]"
        print(f"{name:8}{cells}")
    return report


def main() -> None:
    """Measure, print a table for each number of neighbors and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--neighbors", type=int, nargs="+", default=[0, 1, 2], help="busy processes (0 1 2)")
    add("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    add("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    report = {}
    for count in args.neighbors:
        print(f"\nbusy neighbors: {count}")
        report[count] = table(measure(count, args.rounds))
    print(json.dumps({"neighbors": report} | where()))


if __name__ == "__main__":
    main()
