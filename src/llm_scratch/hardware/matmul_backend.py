"""Which of torch's two matrix libraries multiplies float32 numbers on a CPU.

Tests: tests/hardware/test_matmul_backend.py. Gains: `python benchmarks/train.py`, `python benchmarks/decode.py`.
"""

from __future__ import annotations

from pathlib import Path

import torch

EXACT = 1e-5  # relative error up to which a product counts as float32


def select_matmul_backend() -> str:
    """Let the faster of torch's two matrix libraries for CPUs do this process's float32 products; its name.

    torch takes MKL, which is Intel's; on other makers' processors oneDNN is 1.1 to 1.6 times as fast, and
    for the few rows of writing up to 2.7 times. torch hands it float32 products only
    where it may round their inputs to bfloat16, which oneDNN does on processors with units for that alone: so a product is looked at, and
    where it is not float32's, all stays as it was. The choice follows from the processor and not from a clock, so that a run repeats.
    """
    knob = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    if not torch.backends.mkldnn.is_available() or _cpu_vendor() in ("", "GenuineIntel"):
        return "MKL"
    before, knob.fp32_precision = knob.fp32_precision, "bf16"
    if not _is_float32():
        knob.fp32_precision = before
        return "MKL"
    return "oneDNN"


def _is_float32() -> bool:
    """Whether a product is right to float32's precision under the settings of now."""
    a = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    right = a.double() @ a.double()
    return bool(((a @ a) - right).norm() / right.norm() < EXACT)


def _cpu_vendor() -> str:
    """Who made the processor, as Linux says it; empty where nobody says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
