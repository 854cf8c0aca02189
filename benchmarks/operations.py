"""Where the time of a training step goes: its operations, the slowest first.

    python benchmarks/operations.py [--size 4x128] [--steps 40] [--rows 20]

The step is that of `ours-float32` in train.py. The profiler of torch adds a cost to each operation,
so its times are scaled to the time of a step without it. That makes the many small operations
appear slower than they are, and the matrix products faster. The time between operations, in which
Python runs, is a row of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from interleaved import where
from train import SIZES, ours


def step_seconds(step: Callable[[], Any], count: int) -> float:
    """The median time of a step, in seconds."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def operations(step: Callable[[], Any], count: int) -> tuple[dict[str, tuple[float, float]], float]:
    """For each operation its calls and seconds in a step, and the seconds of a profiled step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        for _ in range(count):
            step()
        seconds = (time.perf_counter() - began) / count
    return {
        event.key: (event.count / count, event.self_cpu_time_total / 1e6 / count)
        for event in profiler.key_averages()
    }, seconds


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", choices=list(SIZES), default="4x128", help="size (default: %(default)s)")
    add("--steps", type=int, default=40, help="steps to profile (default: %(default)s)")
    add("--rows", type=int, default=20, help="operations to print (default: %(default)s)")
    args = parser.parse_args()
    step = ours(SIZES[args.size], "float32", "cpu")[0]
    step_seconds(step, 5)
    plain = step_seconds(step, args.steps)
    found, profiled = operations(step, args.steps)
    rest = profiled - sum(seconds for _, seconds in found.values())
    calls = sum(count for count, _ in found.values())
    kinds = len(found)
    found["between operations"] = (1, rest)
    slowest = sorted(found, key=lambda name: -found[name][1])
    print(f"{args.size}: {1e3 * plain:.1f} ms a step, {1e3 * profiled:.1f} with the profiler")
    print(f"{calls:.0f} operations of {kinds} kinds\n")
    print(f"{'operation':48}{'calls':>8}{'ms':>9}{'share':>8}")
    report = {}
    for name in slowest[: args.rows]:
        count, seconds = found[name]
        share = seconds / profiled
        report[name] = {"calls": round(count, 1), "ms": round(1e3 * plain * share, 3)}
        print(f"{name[:46]:48}{count:8.0f}{1e3 * plain * share:9.2f}{share:8.1%}")
    print(json.dumps({"ms": round(1e3 * plain, 2), "operations": report} | where()))


if __name__ == "__main__":
    main()
