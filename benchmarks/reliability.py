"""Run the reliability tests (`test_r3_...`) and write what they measured to docs/reliability.md.

    python benchmarks/reliability.py [--slow] [--json] [tests/reliability/test_r01_kill.py ...]

Without paths it runs all of tests/ and writes the page; with paths it only prints their rows.
`--slow` runs the nightly tests too; without it, the page keeps their earlier rows. Tests with the
marker `timing` are included, so the machine must be otherwise idle. A test reports its result
through the fixture `measured`, after its last assertion.
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
    "R": "Crashes, full disks, damaged files",
    "W": "Equal results on one machine and on many",
    "N": "Divergence and values that are not finite",
    "F": "Untrusted files and downloads",
    "T": "Tokenizer",
    "S": "Server",
    "P": "Playground",
    "C": "Command line and environment",
}
HEAD = """# Reliability

Each row is a test. `python benchmarks/reliability.py` runs them and writes this page with the
measured values.
"""
LIMITS = """## Limits

- Equal bits need the same type of processor, build of torch, dtype, number of threads and number of
  processes; on a GPU also deterministic kernels. A run that is resumed with another torch or
  another number of threads prints a warning.
- Full disk: after the third failed save the run ends, and unsaved steps are lost. Until then rows,
  samples and log lines wait in memory.
- A killed process is not a power cut. Row R2 simulates power cuts, for disks that write what they
  report as flushed.
- A checkpoint of more than 32 MiB is written from a copy while training continues. A crash during
  the write loses the steps since the previous checkpoint, which can be more than `save_every`; with
  `--system.async-save no` training waits for the write.
- If all cores are busy, a background save slows the steps down: its cost is spread, not removed.
- A file lock ensures that one process writes into a run directory; a file system without locks
  gives a warning instead.
- SHA-256 detects damage, not tampering: whoever can write a checkpoint can write its manifest too.
  Nothing in a checkpoint is executed.
"""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    row: str
    test: str
    target: str
    result: str
    nightly: bool

    @property
    def sort_key(self) -> tuple[int, int, bool]:
        """Sort by part, then by number, the nightly line last."""
        return list(PARTS).index(self.row[0]), int(self.row[1:]), self.nightly


class Collector:
    """Pytest plugin that runs the tests of the rows and collects their results."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.nightly: set[str] = set()
        self.failed: list[str] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests that have a row's name or the fixture `measured`."""
        others = [
            item
            for item in items
            if not NAMED.match(item.name) and "measured" not in getattr(item, "fixturenames", ())
        ]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
        self.nightly = {item.nodeid for item in items if item.get_closest_marker("slow")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the results of a test, or its failure, or why it was not run."""
        name = report.nodeid.rpartition("::")[2]
        named = NAMED.match(name)
        if named:
            row, words = f"{named[1].upper()}{named[2]}", named[3]
        else:
            row, words = "", name.removeprefix("test_").partition("[")[0]
        results: list[tuple[str, str, str]] = []
        if report.failed:
            self.failed.append(report.nodeid)
            results = [(row, f"**failed**: {report.nodeid}", "")]
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "skipped"
            results = [(row, f"not run: {reason.removeprefix('Skipped: ')}", "")]
        elif report.when == "call":
            results = [value for key, value in report.user_properties if key == "measured"]
        test, nightly = words.replace("_", " "), report.nodeid in self.nightly
        for row, result, target in results:
            if row[:1] in PARTS and row[1:].isdigit():
                self.lines.append(Line(row, test, target, result, nightly))


def nightly_lines(page: str) -> list[Line]:
    """Read the nightly lines of an earlier page."""
    rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [
        Line(row.removesuffix(" (nightly)"), *cells, nightly=True)
        for row, *cells in rows
        if row.endswith(" (nightly)")
    ]


def tables(lines: list[Line]) -> str:
    """Format the lines as one table for each part."""
    text = ""
    for part, title in PARTS.items():
        here = [
            line
            for line in dict.fromkeys(sorted(lines, key=lambda line: line.sort_key))
            if line.row[0] == part
        ]
        if here:
            text += f"\n## {title}\n\n| Row | Test | Target | Result |\n|---|---|---|---|\n"
            for line in here:
                cells = (
                    line.row + (" (nightly)" if line.nightly else ""),
                    line.test,
                    line.target,
                    line.result,
                )
                text += (
                    "| "
                    + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
                    + " |\n"
                )
    return text


def environment() -> dict[str, object]:
    """Describe the machine and the source."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="tests to run (default: all of tests/)")
    parser.add_argument("--slow", action="store_true", help="run the nightly tests too")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    collector, began = Collector(), time.time()
    markers = "not gpu and not network" + ("" if arguments.slow else " and not slow")
    os.chdir(ROOT)
    # tests with `import reliability` would find this file there
    sys.path.remove(str(Path(__file__).resolve().parent))
    code = pytest.main(
        ["-q", "-p", "no:cacheprovider", "-m", markers, *(arguments.paths or ["tests"])],
        plugins=[collector],
    )
    where = environment()
    seconds = time.time() - began
    made = (
        f"\nMade in {seconds:.0f} s from commit {where['commit']}:"
        f" {where['cores']} cores, {where['machine']}, Python {where['python']}, "
    )
    earlier = "" if arguments.slow else ". The nightly rows are from an earlier run with `--slow`"
    made += f"torch {where['torch']}{earlier}.\n"
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(code)  # the tests could not be run, or were stopped
    if arguments.paths:
        print(tables(collector.lines))
    else:
        if not arguments.slow:
            collector.lines += nightly_lines(PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(f"{HEAD}{made}{tables(collector.lines)}\n{LIMITS}", encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")
    if arguments.json:
        rows = [asdict(line) for line in sorted(collector.lines, key=lambda line: line.sort_key)]
        print(
            json.dumps(
                {
                    "benchmark": "reliability",
                    "rows": rows,
                    "failed": collector.failed,
                    "seconds": round(seconds),
                }
                | where
            )
        )
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
