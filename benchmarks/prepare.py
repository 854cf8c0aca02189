"""How fast does `llm-scratch data prepare` turn a text into shards, and in how much memory?

    python benchmarks/prepare.py [--sizes 20 160] [--workers 1 2] [--rounds 3]

The whole command (start, vocabulary, reading, ids, sha256, fsync) against tiktoken alone on the
smallest text in memory, on one thread, in pieces of a megabyte; interleaved, medians. "CPU s" are
the seconds of processor time in all processes together: on a busy machine the steadier number.
"beyond" leaves the start out: what the largest text has more than the smallest, by the processor
time that it takes more; "ratio" is that to tiktoken's. Peak: the most that the command and its
workers held, as the sum of their resident sets every 20 ms; what they share counts several times.
The text is the standard library's sources and tiny Shakespeare, repeated. The last line is JSON.
Texts: LLM_SCRATCH_DATA; GPT-2's vocabulary: TIKTOKEN_CACHE_DIR. Needs psutil.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from llm_scratch.data.sources import read
from llm_scratch.tokenizers import TOKENIZERS

MB = 1_000_000


def a_text() -> str:
    """About 12 MB of English and Python."""
    texts = read("shakespeare")
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts).replace("\r", "")


def write(path: Path, text: str, n_bytes: int) -> None:
    """A file of the text, repeated up to a size."""
    data = text.encode()
    with path.open("wb") as file:
        for left in range(n_bytes, 0, -len(data)):
            file.write(data[:left])


@dataclass(frozen=True)
class Taken:
    """What one run took: seconds on the clock, seconds of processor time, MiB."""

    wall: float
    cpu: float
    peak: float = 0.0


def tiktoken_alone(path: Path) -> Taken:
    """What the ids take tiktoken."""
    tokenizer, text = TOKENIZERS["gpt2"](), path.read_text(encoding="utf-8", errors="ignore")
    began, worked = time.perf_counter(), time.process_time()
    for start in range(0, len(text), MB):
        tokenizer.encode_ordinary(text[start : start + MB])
    return Taken(time.perf_counter() - began, time.process_time() - worked)


def prepare(path: Path, workers: int) -> Taken:
    """What the command takes."""
    out = path.with_suffix(".shards")
    words = ["data", "prepare", str(path), "--out", str(out)]
    words += ["--tokenizer", "gpt2", "--workers", str(workers)]
    began, worked = time.perf_counter(), children_cpu()
    child = psutil.Popen([sys.executable, "-m", "llm_scratch", *words], stdout=subprocess.DEVNULL)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, tree_memory(child))
        time.sleep(0.02)
    taken = Taken(time.perf_counter() - began, children_cpu() - worked, peak / 2**20)
    if child.returncode:
        sys.exit(child.returncode)
    shutil.rmtree(out)
    return taken


def children_cpu() -> float:
    """Processor time of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree_memory(parent: psutil.Process) -> int:
    """Resident bytes of a process and of all below it."""
    total = 0
    try:
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


Runs = dict[tuple[str, int], list[Taken]]
"""(contender, MB) -> what each round took."""


def measure(sizes: list[int], workers: list[int], rounds: int) -> Runs:
    """Run the contenders in turn."""
    least, text = min(sizes), a_text()
    runs: Runs = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {size: Path(folder) / f"{size}.txt" for size in sizes}
        for size, path in paths.items():
            write(path, text, size * MB)
        for _ in range(rounds):
            runs.setdefault(("tiktoken alone", least), []).append(tiktoken_alone(paths[least]))
            for n in workers:
                for size, path in paths.items():
                    runs.setdefault((f"prepare, workers {n}", size), []).append(prepare(path, n))
    return runs


def print_table(runs: Runs, least: int, most: int) -> list[dict[str, object]]:
    """Print medians and ratios; returns the rows for JSON."""
    medians = {
        key: Taken(*(statistics.median(values) for values in zip(*map(astuple, taken))))
        for key, taken in runs.items()
    }
    columns = ("MB/s", "MB/CPU s", "beyond", "ratio", "peak MiB")
    print(f"{'':22} {'MB':>5} {' '.join(f'{column:>8}' for column in columns)}")
    base = least / medians["tiktoken alone", least].cpu
    rows = []
    for (name, size), taken in medians.items():
        start = medians[name, least]
        beyond = (most - least) / (taken.cpu - start.cpu) if size == most > least else None
        row = {
            "MB": size,
            "MB/s": size / taken.wall,
            "MB/CPU s": size / taken.cpu,
            "beyond": beyond,
            "peak MiB": taken.peak,
        }
        rounded = {key: value and round(value, 2) for key, value in row.items()}
        rows.append({"what": name, **rounded})
        cells = [row["MB/s"], row["MB/CPU s"], beyond, beyond and beyond / base]
        shown = [f"{cell:>8.2f}" if cell else " " * 8 for cell in cells]
        print(f"{name:22} {size:5} {' '.join(shown)} {f'{taken.peak:8.0f}' if taken.peak else ''}")
    return rows


def main() -> None:
    """Run everything and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 160], help="MB")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs = measure(args.sizes, args.workers, args.rounds)
    rows = print_table(runs, min(args.sizes), max(args.sizes))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    load = os.getloadavg() if hasattr(os, "getloadavg") else None  # Windows has none
    machine = {"system": platform.platform(), "cpus": os.cpu_count(), "load": load}
    versions = {name: version(name) for name in ("tiktoken", "numpy")}
    versions["python"] = sys.version.split()[0]
    report = {"commit": commit, "machine": machine, "versions": versions, "results": rows}
    print("\n" + json.dumps({"benchmark": "prepare", **report}))


if __name__ == "__main__":
    main()
