"""What survives what? Runs the tests that carry a row's name (`test_r3_...`) and writes what they measured to docs/reliability.md.

    python benchmarks/reliability.py [--slow] [--json] [tests/reliability/test_r01_kill.py ...]

Without paths it runs all of tests/ and writes the page; with some, it prints their rows only. `--slow` takes the nightly numbers too.
Tests with the marker `timing` are among them, so the machine must be otherwise idle.
A test says what it reached through the fixture `measured`, once its assertions have held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"test_([a-z])(\d+)_(\w+)")
PARTS = {
    "R": "Crashes, full disks, damage",
    "W": "The same numbers, on one machine and on many",
    "N": "Numbers that go wrong",
    "F": "Files and downloads that cannot be trusted",
    "T": "Tokenizer",
    "S": "Server",
    "P": "Playground",
    "C": "Command line and environment",
}
HEAD = """# What survives what

Each row is a test that can be read and run. This page is written by `python benchmarks/reliability.py`, with the numbers that the tests
measured; nothing in the tables is typed.
"""
LIMITS = """## What this does not promise

- The same bits need the same kind of processor, build of torch, number type, number of threads and number of processes. On a GPU they
  also need deterministic kernels. A run that goes on with another torch or another number of threads says so in a line.
- Of a full disk, what was not saved by the third try is lost with the process; until then rows, samples and log lines wait in memory.
- A killed process does not show what a power cut does. Row R2 does, as far as the disk keeps its word when it is asked to flush.
- A checkpoint of more than 32 MiB is written from a copy while training goes on. A crash before it is whole loses the steps since the one
  before, so up to the steps of one save more than `save_every`; `--system.async-save no` lets training wait instead.
- Where all cores compute, a save in the background takes its time from the steps: it is spread out, not gone.
- One process writes into a run directory, held to it by a lock of the file system. Where that knows no locks, a warning says so.
- `sha256` finds damage, not malice: who can write a checkpoint can write its manifest too. Nothing in a checkpoint is ever run.
"""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    test: str
    asked: str
    reached: str
    nightly: bool

    @property
    def place(self) -> tuple[int, int, bool]:
        """Where it stands: by part, then by number, the nightly one last."""
        return list(PARTS).index(self.row[0]), int(self.row[1:]), self.nightly


class Collector:
    """A plugin of pytest: runs the tests that belong to a row, and keeps what they say."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.nightly: set[str] = set()
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what has a row's name or measures something."""
        others = [item for item in items if not NAMED.match(item.name) and "measured" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
        self.nightly = {item.nodeid for item in items if item.get_closest_marker("slow")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a test measured; or that it failed, or why it was not run."""
        name = report.nodeid.rpartition("::")[2]
        named = NAMED.match(name)
        row, words = (f"{named[1].upper()}{named[2]}", named[3]) if named else ("", name.removeprefix("test_").partition("[")[0])
        said: list[tuple[str, str, str]] = []
        if report.failed:
            self.failed.append(report.nodeid)
            said = [(row, f"**failed**: {report.nodeid}", "")]
        elif report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else "skipped"
            said = [(row, f"not run: {why.removeprefix('Skipped: ')}", "")]
        elif report.when == "call":
            said = [value for key, value in report.user_properties if key == "measured"]  # type: ignore[misc]
        for row, reached, asked in said:
            if row[:1] in PARTS and row[1:].isdigit():
                self.lines.append(Line(row, words.replace("_", " "), asked, reached, report.nodeid in self.nightly))


def tables(lines: list[Line]) -> str:
    """The lines as one table a part."""
    text = ""
    for part, title in PARTS.items():
        here = [line for line in dict.fromkeys(sorted(lines, key=lambda line: line.place)) if line.row[0] == part]
        if here:
            text += f"\n## {title}\n\n| Row | Test | Asked | Reached |\n|---|---|---|---|\n"
            for line in here:
                cells = (line.row + (" (nightly)" if line.nightly else ""), line.test, line.asked, line.reached)
                text += "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
    return text


def environment() -> dict[str, object]:
    """Where it was measured."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="tests to run; the whole of tests/ unless given")
    parser.add_argument("--slow", action="store_true", help="the nightly numbers too")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    asked = parser.parse_args()
    collector, began = Collector(), time.time()
    markers = "not gpu and not network" + ("" if asked.slow else " and not slow")
    os.chdir(ROOT)
    sys.path.remove(str(Path(__file__).resolve().parent))  # where tests that say `import reliability` would find this file
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", markers, *(asked.paths or ["tests"])], plugins=[collector])
    where = environment()
    seconds = time.time() - began
    made = (
        f"\nMade in {seconds:.0f} s from commit {where['commit']}: {where['cores']} cores, {where['machine']}, Python {where['python']}, "
    )
    made += f"torch {where['torch']}{'' if asked.slow else '; the nightly numbers (`--slow`) are not among them'}.\n"
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(code)  # the tests could not be run, or were stopped
    if asked.paths:
        print(tables(collector.lines))
    else:
        PAGE.write_text(f"{HEAD}{made}{tables(collector.lines)}\n{LIMITS}", encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")
    if asked.json:
        rows = [asdict(line) for line in sorted(collector.lines, key=lambda line: line.place)]
        print(json.dumps({"benchmark": "reliability", "rows": rows, "failed": collector.failed, "seconds": round(seconds)} | where))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
