"""Time of `llm-scratch --help` and other help pages beside that of a bare Python.

    python benchmarks/startup.py

Runs each command in turn, twelve times after one warm-up; prints the best and the median in
seconds, the ratio of medians, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import tyro, rich": ["-c", "import tyro, rich"],
    "llm-scratch --help": ["-m", "llm_scratch", "--help"],
    "llm-scratch train --help": ["-m", "llm_scratch", "train", "--help"],
    "llm-scratch generate --help": ["-m", "llm_scratch", "generate", "--help"],
}
ROUNDS = 12


def seconds(words: list[str]) -> float:
    """Elapsed seconds of one process from start to exit."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Time the commands; print a table and a line of JSON."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_number in range(ROUNDS + 1):
        for name, words in COMMANDS.items():
            taken = seconds(words)
            if round_number:  # the first round fills the disk's cache
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = {name: min(values) for name, values in times.items()}
    bare = medians["python -c pass"]
    for name, value in medians.items():
        print(
            f"{name:28} best {best[name]:6.3f} s   median {value:6.3f} s  "
            f" {value / bare:5.1f} x a bare Python"
        )
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    row = {
        "benchmark": "startup",
        "best": best,
        "seconds": medians,
        "commit": git.stdout.strip() or None,
    }
    print(json.dumps(row | {"python": platform.python_version(), "machine": platform.platform()}))


if __name__ == "__main__":
    main()
