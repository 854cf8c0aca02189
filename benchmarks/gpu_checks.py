"""Parts of gpu.py: the GPU and its measured rates; the tests marked `gpu`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from gpu_setup import Emit, Row, Setup

ROOT = Path(__file__).resolve().parent.parent


def machine(setup: Setup, emit: Emit) -> None:
    """The device, its matrix rates and its read bandwidth."""
    from llm_scratch.hardware.benchmark import matmul_flops, read_bandwidth

    device = setup.device
    seconds = 0.05 if setup.tiny else 0.5
    row: Row = {"name": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        row |= {"name": card.name, "memory_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        row[f"{name}_tflops"] = matmul_flops(device, dtype, seconds) / 1e12
    row["read_gb_per_second"] = read_bandwidth(device, seconds) / 1e9
    emit(row)


class Reporter:
    """A pytest plugin that counts outcomes and emits a row for each test that did not pass."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.count = {"passed": 0, "failed": 0, "skipped": 0}

    def add(self, row: Row) -> None:
        """Count a test."""
        self.count[row["outcome"]] += 1
        if row["outcome"] != "passed":
            self.emit(row)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after the setup, the call and the teardown of each test."""
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.rpartition("/")[2]
        row = {"name": name, "outcome": report.outcome, "seconds": report.duration}
        if report.failed:
            row["why"] = error_line(report.longrepr)
        elif report.skipped:
            row["why"] = str(report.longrepr[2])
        self.add(row)

    def pytest_collectreport(self, report: Any) -> None:
        """Called by pytest after it has collected a file."""
        if report.failed:
            why = error_line(report.longrepr)
            self.add({"name": report.nodeid, "outcome": "failed", "why": why})


def error_line(longrepr: Any, max_length: int = 200) -> str:
    """The error of a test in one line."""
    crash = getattr(longrepr, "reprcrash", None)
    text = crash.message if crash else str(longrepr).strip().rpartition("\n")[2]
    return " ".join(text.split())[:max_length]


def gpu_tests() -> list[str]:
    """The files with tests marked `gpu`. The other files may import packages that are missing."""
    files = sorted(ROOT.glob("tests/**/test_*.py"))
    return [str(path) for path in files if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def tests(setup: Setup, emit: Emit) -> None:
    """Run the tests marked `gpu`: a row for each that did not pass, then the counts.

    Warnings are not errors here, as other versions of torch emit other warnings.

    Raises:
        AssertionError: a test failed, or none ran.
    """
    import pytest

    os.environ["LLM_SCRATCH_TEST_DEVICE"] = str(setup.device)
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-W", "default"]
    reporter = Reporter(emit)
    pytest.main([*options, "--rootdir", str(ROOT), *gpu_tests()], plugins=[reporter])
    emit({"name": "tests marked gpu", **reporter.count})
    if reporter.count["failed"] or not reporter.count["passed"]:
        n_tests = sum(reporter.count.values())
        raise AssertionError(f"{reporter.count['failed']} of {n_tests} tests failed")
