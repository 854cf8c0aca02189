"""Log files of a run: metrics.jsonl, samples.md, config.yaml and env.json; and the timing of steps.

A row of metrics.jsonl has results that are the same whenever the run is repeated, and timings under
the keys of `NONDETERMINISTIC_FIELDS`.
Tests: tests/training/test_run_logger.py.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_scratch import __version__
from llm_scratch.config import config_hash, dump_config
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops
from llm_scratch.hardware.memory import peak_memory
from llm_scratch.hardware.processor import processor_name
from llm_scratch.model import LanguageModel
from llm_scratch.model.flops import flops_per_token, mfu
from llm_scratch.run_directory import SAMPLE_HEADING, iter_metrics
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.append_log import DurableLog
from llm_scratch.training.callbacks import Callback, TrainState

NONDETERMINISTIC_FIELDS = ("seconds", "elapsed", "tokens_per_second", "mfu", "peak_memory_bytes")
"""Keys of a row that depend on the machine and the moment; `elapsed`: seconds of the run so far."""


def metrics_until(folder: Path, step: int) -> list[dict[str, Any]]:
    """The rows of a run that resumes at `step`: those up to it; none for a new run."""
    return [
        row for row in iter_metrics(folder / "metrics.jsonl") if row["step"] <= step and step > 0
    ]


def environment(device: torch.device) -> dict[str, Any]:
    """The environment of a run: versions, machine, measured matmul FLOP/s, git commit."""
    try:
        package = Path(__file__).resolve().parent
        command = ["git", "rev-parse", "HEAD"]
        result = subprocess.run(
            command, cwd=package, capture_output=True, encoding="utf-8", errors="replace", timeout=5
        )
        commit = result.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "llm_scratch": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "device": str(device) if device.type != "cuda" else torch.cuda.get_device_name(device),
        "matrix_rate": matmul_flops(device, matmul_dtype(device)),
        "commit": commit or None,
    }


class StepTimer:
    """The timing of a run's steps.

    Args:
        device: of the computation.
        matmul_flops: FLOP/s of matrix products, of all devices together; 0: no MFU.
        rows: of metrics.jsonl up to the step that the run resumes at; `elapsed` continues theirs.
    """

    def __init__(
        self,
        device: torch.device,
        matmul_flops: float = 0.0,
        rows: Iterable[Mapping[str, float]] = (),
    ) -> None:
        self.device = device
        self._matmul_flops = matmul_flops
        self._began = time.perf_counter() - max(
            (row.get("elapsed", 0.0) for row in rows), default=0.0
        )

    def elapsed(self) -> float:
        """Seconds of the run so far, with those before it was resumed."""
        return time.perf_counter() - self._began

    def fields(self, model: nn.Module, tokens: int, seconds: float) -> dict[str, float]:
        """The timing of a step, under `NONDETERMINISTIC_FIELDS`."""
        speed = tokens / max(seconds, 1e-9)
        row = {"seconds": seconds, "tokens_per_second": speed}
        if self._matmul_flops and isinstance(model, LanguageModel):
            row["mfu"] = mfu(flops_per_token(model.cfg), speed, self._matmul_flops)
        peak = peak_memory(self.device)
        return row if peak is None else row | {"peak_memory_bytes": peak}


class RunLogger(Callback):
    """Write the log files of a run.

    On resume, rows after the checkpoint are removed, so no step appears twice.

    Args:
        environment: of the run; written as env.json.
        rows: of metrics.jsonl up to the step that the run resumes at (`metrics_until`).
        warn: called with a message when the disk is full; rows then wait (see append_log.py).
    """

    def __init__(
        self,
        environment: Mapping[str, Any],
        rows: Iterable[Mapping[str, Any]],
        warn: Callable[[str], None] = print,
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._warn = warn
        self._logs: list[DurableLog] = []

    def started(self, state: TrainState, resumed: bool) -> None:
        """Write settings and environment, and open the logs at the step to resume at."""
        atomic_write(
            state.folder / "config.yaml",
            f"# settings {config_hash(state.config)}\n{dump_config(state.config)}",
        )
        atomic_write(state.folder / "env.json", json.dumps(self._environment, indent=1) + "\n")
        self._open_at(state.folder, state.step, self._rows)
        self._rows = ()

    def _open_at(self, folder: Path, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep these rows and the samples up to `step`, and open the files for appending."""
        atomic_write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        atomic_write(folder / "samples.md", _samples_until(folder / "samples.md", step))
        self._metrics = DurableLog(folder / "metrics.jsonl", self._warn)
        self._samples = DurableLog(folder / "samples.md", self._warn)
        self._logs = [self._metrics, self._samples]

    def logged(self, state: TrainState, row: dict[str, float]) -> None:
        """Append a row to metrics.jsonl.

        Raises:
            UserError: writing has failed for so long that the buffer is full (exit code 6).
        """
        self._metrics.append(json.dumps(row) + "\n")

    def sampled(self, state: TrainState, text: str) -> None:
        """Append a sample to samples.md."""
        self._samples.append(f"\n## Step {state.step}, {state.tokens:,} tokens\n\n{text.strip()}\n")

    def rolled_back(self, state: TrainState) -> None:
        """Remove what was logged after the step of the rollback."""
        self._close()
        self._open_at(state.folder, state.step, metrics_until(state.folder, state.step))

    def flush(self) -> None:
        """Sync every row and sample to the disk, before a checkpoint refers to their steps.

        Raises:
            UserError: writing fails (exit code 6).
        """
        for log in self._logs:
            log.flush()

    def closed(self, state: TrainState, error: BaseException | None) -> None:
        """Write what waits, and close the files."""
        self._close()

    def _close(self) -> None:
        for log in self._logs:
            log.close()


def _samples_until(path: Path, step: int) -> str:
    """The content of samples.md up to `step`; only its heading for a new run."""
    if step == 0 or not path.is_file():
        return "# What the model wrote as it learned\n"
    text = path.read_text(encoding="utf-8", errors="replace")
    later = [heading for heading in SAMPLE_HEADING.finditer(text) if int(heading[1]) > step]
    return text[: later[0].start()].removesuffix("\n") if later else text
