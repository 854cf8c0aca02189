"""Time the steps of a run: seconds, tokens per second, MFU, and the memory that they take.

Tests: tests/training/test_step_timer.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from llm_scratch.hardware.flops import flops_per_token, mfu
from llm_scratch.hardware.memory import peak_memory


class StepTimer:
    """The timing of a run's steps.

    Args:
        device: of the computation.
        matmul_flops: FLOP/s of matrix products, of all devices together; 0: no MFU.
        rows: of metrics.jsonl up to the step that the run resumes at; `elapsed` continues theirs.
    """

    def __init__(self, device: torch.device, matmul_flops: float = 0.0, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.device = device
        self._matmul_flops = matmul_flops
        self._flops_per_token = 0
        self._began = time.perf_counter() - max((row.get("elapsed", 0.0) for row in rows), default=0.0)

    def elapsed(self) -> float:
        """Seconds of the run so far, with those before it was resumed."""
        return time.perf_counter() - self._began

    def fields(self, model: nn.Module, tokens: int, seconds: float) -> dict[str, float]:
        """The timing of a step, under `run_logger.NONDETERMINISTIC_FIELDS`."""
        speed = tokens / max(seconds, 1e-9)
        row = {"seconds": seconds, "tokens_per_second": speed}
        if self._matmul_flops and hasattr(model, "cfg"):
            self._flops_per_token = self._flops_per_token or flops_per_token(model)
            row["mfu"] = mfu(self._flops_per_token, speed, self._matmul_flops)
        peak = peak_memory(self.device)
        return row if peak is None else row | {"peak_memory_bytes": peak}
