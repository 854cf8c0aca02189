"""Test the versions that pyproject.toml allows: Python, torch since 2.9, NumPy 1.26 and 2, ARM.

Each row of ROWS is installed into a fresh environment, from wheels only, with the package built
from this source tree. Then the smoke test runs there, and tests whose results could depend on a
version. Needs uv and the registries PyPI and, for a Python or a processor that is not here, Debian.
A row whose versions cannot be installed is printed with the reason and does not count as a failure.

    python tools/version_matrix.py                 # on this processor
    python tools/version_matrix.py --arm           # on 64-bit ARM, emulated by QEMU
    python tools/version_matrix.py --only 3.14     # the rows whose name contains 3.14
    python tools/version_matrix.py --tests tests/training    # other tests than the default ones

Tests: tests/tools/test_version_matrix.py.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import (
    Environment,
    Unavailable,
    debian_environment,
    python_environment,
    run_quietly,
)
from torch_index import choose

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/notebooks",
    "tests/model",
    "tests/interop",
    "tests/storage/test_checkpoint.py",
    "tests/test_loading.py",
)
"""The notebooks' printed numbers, models and kernels, formats of other libraries and our own."""
ARM_TESTS = (
    "tests/model/test_quantized.py",
    "tests/model/test_packed.py",
    "tests/model/test_gpt_variants.py",
)
SOURCE_FILES = ("*.md", "*.toml", "LICENSE", "constraints.txt", "Makefile")
SOURCE_FOLDERS = ("src", "tests", "docs", "tools", "notebook", "lessons", "benchmarks")
TIMEOUT_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Row:
    """One combination to try.

    Args:
        python: "3.12".
        wanted: requirements besides the package's own; other packages have the newest release.
        lowest: take the lowest release that pyproject.toml allows of every direct dependency.
        pinned: keep to constraints.txt.
        cpu: "" for this machine, else a model of a 64-bit ARM processor for QEMU.
    """

    python: str
    wanted: tuple[str, ...] = ()
    lowest: bool = False
    pinned: bool = False
    cpu: str = ""

    @property
    def name(self) -> str:
        """The requested versions in a few words."""
        rest = "lowest" if self.lowest else "constraints.txt" if self.pinned else "newest"
        packages = ", ".join([*self.wanted, *([] if len(self.wanted) > 1 else [rest])])
        return f"Python {self.python}, {packages}" + (f", ARM {self.cpu}" if self.cpu else "")


ROWS = (
    Row("3.11", lowest=True),
    Row("3.11", pinned=True),
    Row("3.11"),
    Row("3.12", ("torch==2.10.*", "numpy==1.26.*")),
    Row("3.12", ("torch==2.11.*", "numpy==2.0.*")),
    Row("3.13", ("torch==2.12.*", "numpy==2.2.*")),
    Row("3.13", ("torch==2.14.*",)),
    Row("3.14", ("torch==2.9.*",)),
    Row("3.14"),
)
ARM_ROWS = (
    # every feature that QEMU has, including bfloat16 and SVE
    Row("3.11", ("torch==2.10.*",), cpu="max"),
    Row("3.13", ("torch==2.9.*",), cpu="neoverse-n1"),  # a server without bfloat16
    Row("3.13", pinned=True, cpu="cortex-a72"),  # Raspberry Pi 4, the oldest kind of ARMv8
)
"""No torch 2.10 on cortex-a72: its wheels crash there at import (pytorch issue 176993).

Results: LOG.md, "64-bit ARM by emulation".
"""


@dataclass
class Result:
    """The outcome of a row: installed versions and results of the checks, or why it was skipped."""

    row: Row
    versions: str = ""
    checks: str = ""
    reason: str = ""
    failed: bool = False

    def line(self) -> str:
        """The row of the table."""
        verdict = "not tried" if self.reason else "FAILED" if self.failed else "ok"
        outcome = self.reason or f"{self.versions}: {self.checks}"
        return f"{verdict:<9} {self.row.name:<44} {outcome}"


def copy_source(target: Path) -> None:
    """Copy the source tree, so that installing and testing leave nothing in it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    patterns = (*SOURCE_FILES, *SOURCE_FOLDERS)
    for path in [path for pattern in patterns for path in ROOT.glob(pattern)]:
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=ignored)
        else:
            shutil.copy(path, target)


def build_wheel(uv: str, work: Path) -> Path:
    """The wheel of this source tree."""
    copy_source(work / "build")
    run_quietly([uv, "build", "--wheel", "--out-dir", work / "wheel", work / "build"])
    return next((work / "wheel").glob("*.whl"))


def index_flags() -> list[str]:
    """uv's flags for the index of torch's CPU builds, where it is needed and can be reached."""
    if sys.platform != "linux":
        return []
    flags, reason = choose(None, Path("/"), os.environ.get("PATH", os.defpath))
    print(reason, flush=True)
    return [*flags.split(), "--index-strategy", "unsafe-best-match"] if flags else []


def install(row: Row, place: Environment, uv: str, flags: Sequence[str], wheel: Path) -> None:
    """Install the package with all its extras into a place; Unavailable if that fails."""
    command = [uv, "pip", "install", *place.uv_flags, "--only-binary", ":all:", *flags]
    if row.lowest:
        command += ["--resolution", "lowest-direct"]
    if row.pinned:
        command += ["--constraints", str(ROOT / "constraints.txt")]
    ours: list[str | Path] = ["--requirements", ROOT / "pyproject.toml", "--extra", "dev", wheel]
    run_quietly([*command, *ours, *row.wanted])


def last_line(text: str) -> str:
    """The last line of an output, without pytest's frame."""
    return (text.strip().splitlines() or ["no output"])[-1].strip("= ")


def check(place: Environment, tests: Sequence[str], log: Path) -> tuple[str, str, bool]:
    """Run the smoke test and the tests: (versions, outcome in a line, whether all passed)."""
    smoke, text = place.run("tools/smoke_test.py", timeout=TIMEOUT_SECONDS)
    log.write_text(text, encoding="utf-8")
    versions = next((line for line in text.splitlines() if line.startswith("Python 3")), "")
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    status, more = place.run(*command, timeout=TIMEOUT_SECONDS) if versions else (1, "not run")
    log.write_text(f"{text}\n{more}", encoding="utf-8")
    outcome = f"smoke test {last_line(text)}; tests {last_line(more)}"
    return versions, outcome, smoke == status == 0


def try_row(
    row: Row, uv: str, flags: Sequence[str], wheel: Path, work: Path, tests: Sequence[str]
) -> Result:
    """Install and check one row."""
    try:
        if row.cpu:
            place = debian_environment(row.python, "aarch64", row.cpu, work)
        else:
            place = python_environment(row.python, work, uv)
        install(row, place, uv, flags, wheel)
    except Unavailable as error:
        return Result(row, reason=str(error))
    copy_source(place.folder)
    log = work / "logs" / (re.sub(r"[^\w.]+", "-", row.name) + ".log")
    versions, checks, passed = check(place, tests, log)
    return Result(row, versions, f"{checks} ({log})", failed=not passed)


def find_uv() -> str:
    """The program uv, beside this Python or on the search path."""
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    if uv is None:
        sys.exit("uv: not found; install it with `pip install uv`")
    return uv


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arm", action="store_true", help="on an emulated 64-bit ARM")
    parser.add_argument("--only", default="", help="part of the rows' names (default: all)")
    parser.add_argument(
        "--tests",
        nargs="+",
        help="files and folders of tests to run (default: those that depend on a version most)",
    )
    work = ROOT / "build" / "versions"
    text = "folder for environments and logs (default: build/versions)"
    parser.add_argument("--work", type=Path, default=work, help=text)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the rows, one line each; 1 if a row failed."""
    options = parse_arguments(arguments)
    work = options.work.resolve()
    (work / "logs").mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where debootstrap is, on root's PATH alone
    uv = find_uv()
    flags, wheel = index_flags(), build_wheel(uv, work)
    rows = [row for row in (ARM_ROWS if options.arm else ROWS) if options.only in row.name]
    tests = options.tests or (ARM_TESTS if options.arm else TESTS)
    data = ROOT.parent / "shared" / "data"  # where tests/conftest.py looks, also from a copy
    os.environ.setdefault("LLM_SCRATCH_DATA", str(data))
    failed = 0
    for row in rows:
        began = time.monotonic()
        result = try_row(row, uv, flags, wheel, work, tests)
        failed += result.failed
        print(f"{result.line()} [{time.monotonic() - began:.0f} s]", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
