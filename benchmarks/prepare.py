"""Speed and memory of `llm-scratch data prepare`, which turns a text into token shards.

    python benchmarks/prepare.py [--sizes 20 160] [--workers 1 2] [--rounds 3]

The whole command (start, vocabulary, reading, ids, sha256, fsync) is compared with tiktoken alone,
which encodes the smallest text from memory on one thread in pieces of a megabyte. Rounds are
interleaved; figures are medians. Columns:
  CPU s     processor seconds of all processes together; on a busy machine the steadier number
  beyond    speed without the start: the additional text of the largest size over the smallest,
            divided by the additional processor time
  ratio     "beyond" divided by tiktoken's speed
  peak      highest sum of resident sets of the command and its workers, sampled every 20 ms;
            shared memory counts several times

The text is the standard library's sources and tiny Shakespeare, repeated. The last line is JSON.
LLM_SCRATCH_DATA names the folder of the texts, TIKTOKEN_CACHE_DIR that of GPT-2's vocabulary. Needs
psutil.
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
    """About 12 MB of English and Python text."""
    texts = read("shakespeare")
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts).replace("\r", "")


def write(path: Path, text: str, n_bytes: int) -> None:
    """Write the text to a file, repeated up to a size."""
    data = text.encode()
    with path.open("wb") as file:
        for left in range(n_bytes, 0, -len(data)):
            file.write(data[:left])


@dataclass(frozen=True)
class Costs:
    """Costs of one run: elapsed seconds, processor seconds, peak memory in MiB."""

    wall: float
    cpu: float
    peak: float = 0.0


def tiktoken_alone(path: Path) -> Costs:
    """Costs of encoding by tiktoken in this process."""
    tokenizer, text = TOKENIZERS["gpt2"](), path.read_text(encoding="utf-8", errors="ignore")
    began, worked = time.perf_counter(), time.process_time()
    for start in range(0, len(text), MB):
        tokenizer.encode_ordinary(text[start : start + MB])
    return Costs(time.perf_counter() - began, time.process_time() - worked)


def prepare(path: Path, workers: int) -> Costs:
    """Costs of `llm-scratch data prepare`."""
    out = path.with_suffix(".shards")
    words = ["data", "prepare", str(path), "--out", str(out)]
    words += ["--tokenizer", "gpt2", "--workers", str(workers)]
    began, worked = time.perf_counter(), children_cpu()
    child = psutil.Popen([sys.executable, "-m", "llm_scratch", *words], stdout=subprocess.DEVNULL)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, tree_memory(child))
        time.sleep(0.02)
    costs = Costs(time.perf_counter() - began, children_cpu() - worked, peak / 2**20)
    if child.returncode:
        sys.exit(child.returncode)
    shutil.rmtree(out)
    return costs


def children_cpu() -> float:
    """Processor seconds of all finished child processes and their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree_memory(parent: psutil.Process) -> int:
    """Resident bytes of a process and all its descendants."""
    total = 0
    try:
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


Runs = dict[tuple[str, int], list[Costs]]
"""(contender, MB) -> the costs of each round."""


def measure(sizes: list[int], workers: list[int], rounds: int) -> Runs:
    """Run the contenders interleaved."""
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
    """Print medians and ratios; return the rows for JSON."""
    medians = {
        key: Costs(*(statistics.median(values) for values in zip(*map(astuple, costs))))
        for key, costs in runs.items()
    }
    columns = ("MB/s", "MB/CPU s", "beyond", "ratio", "peak MiB")
    print(f"{'':22} {'MB':>5} {' '.join(f'{column:>8}' for column in columns)}")
    base = least / medians["tiktoken alone", least].cpu
    rows = []
    for (name, size), costs in medians.items():
        start = medians[name, least]
        beyond = (most - least) / (costs.cpu - start.cpu) if size == most > least else None
        row = {
            "MB": size,
            "MB/s": size / costs.wall,
            "MB/CPU s": size / costs.cpu,
            "beyond": beyond,
            "peak MiB": costs.peak,
        }
        rounded = {key: value and round(value, 2) for key, value in row.items()}
        rows.append({"what": name, **rounded})
        cells = [row["MB/s"], row["MB/CPU s"], beyond, beyond and beyond / base]
        shown = [f"{cell:>8.2f}" if cell else " " * 8 for cell in cells]
        print(f"{name:22} {size:5} {' '.join(shown)} {f'{costs.peak:8.0f}' if costs.peak else ''}")
    return rows


def main() -> None:
    """Run everything and print the table and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[20, 160], help="MB of text (default: 20 160)")
    add("--workers", type=int, nargs="+", default=[1, 2], help="processes (default: 1 2)")
    add("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
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
