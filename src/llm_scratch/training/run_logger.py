"""Log files of a run (metrics.jsonl, samples.md, config.yaml, env.json, loss plot) and training callbacks.

A row of metrics.jsonl has what was computed, which is the same whenever the run is repeated, and
under `NONDETERMINISTIC_FIELDS` what it took.
Tests: tests/training/test_run_logger.py.
"""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_scratch import __version__
from llm_scratch.config import RunConfig, config_hash, dump_config
from llm_scratch.errors import GenerationWarning, describe_error
from llm_scratch.generation.decode import stream
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops
from llm_scratch.hardware.memory import peak_memory
from llm_scratch.hardware.processor import processor_name
from llm_scratch.model import LanguageModel
from llm_scratch.model.flops import flops_per_token, mfu
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.append_log import DurableLog
from llm_scratch.training.plot import plot_runs
from llm_scratch.training.tensorboard import TensorBoardLogger

if TYPE_CHECKING:
    from llm_scratch.training.trainer import Trainer

NONDETERMINISTIC_FIELDS = ("seconds", "elapsed", "tokens_per_second", "mfu", "peak_memory_bytes")
"""Keys of a row that depend on the machine and the moment (`elapsed`: seconds of the run so far)."""


class Callback:
    """Callbacks for training events; the base class prints messages and does nothing else."""

    def started(self, run: Trainer, resumed: bool) -> None:
        """Called before the first step."""

    def step(self, run: Trainer, row: dict[str, float]) -> None:
        """Called after a step; `row` has step, tokens, loss, bits_per_byte, lr, grad_norm and the timing."""

    def evaluated(self, run: Trainer, scores: dict[str, float]) -> None:
        """Called after an evaluation; `scores` has train_loss, val_loss, val_bits_per_byte."""

    def sampled(self, run: Trainer, text: str) -> None:
        """Called with a sample that the model generated."""

    def finished(self, run: Trainer) -> None:
        """Called when the last step is done and saved."""

    def note(self, message: str) -> None:
        """Called with a message that is not a warning."""
        print(message)

    def warn(self, message: str) -> None:
        """Called with a warning; training continues."""
        print(f"warning: {message}")


class NullCallback(Callback):
    """Callbacks of a rank that does not write: silent."""

    def note(self, message: str) -> None:
        """Print nothing; rank 0 does."""

    def warn(self, message: str) -> None:
        """Print nothing; rank 0 does."""


def iter_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; lines that are not complete are skipped (the machine stopped while writing)."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            yield row


def _samples_until(path: Path, step: int) -> str:
    """The content of samples.md up to `step`; only its heading for a new run."""
    if step == 0 or not path.is_file():
        return "# What the model wrote as it learned\n"
    text = path.read_text(encoding="utf-8", errors="replace")
    headings = re.finditer(r"\n## Step (\d+), [\d,]+ tokens\n", text)
    later = (heading.start() for heading in headings if int(heading[1]) > step)
    return text[: next(later, len(text))]


def environment(device: torch.device) -> dict[str, Any]:
    """The environment of a run: versions, machine, measured matmul FLOP/s, git commit."""
    try:
        here = Path(__file__).resolve().parent
        command = ["git", "rev-parse", "HEAD"]
        result = subprocess.run(command, cwd=here, capture_output=True, encoding="utf-8", errors="replace", timeout=5)
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


class RunLogger:
    """Write the log files of a run. On resume, rows after the checkpoint are removed, so no step appears twice.

    Args:
        config: the run's settings; written as config.yaml.
        folder: the run directory.
        step: the step to resume at; 0 for a new run.
        device: of the computation.
        processes: how many share each step, each on such a device.
        warn: called with a message when the disk is full; rows then wait (see append_log.py).
    """

    def __init__(
        self, config: RunConfig, folder: Path, step: int, device: torch.device | str = "cpu", processes: int = 1,
        warn: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.device = torch.device(device)
        self._warn = warn
        env = environment(self.device)
        self._matmul_flops = float(env["matrix_rate"]) * processes
        atomic_write(folder / "config.yaml", f"# settings {config_hash(config)}\n{dump_config(config)}")
        atomic_write(folder / "env.json", json.dumps(env, indent=1) + "\n")
        rows = self._truncate_after(step)
        self._tensorboard = TensorBoardLogger(folder / "tensorboard", step) if config.system.tensorboard else None
        self._began = time.perf_counter() - max((row.get("elapsed", 0.0) for row in rows), default=0.0)

    def __enter__(self) -> RunLogger:
        return self

    def _truncate_after(self, step: int) -> list[dict[str, Any]]:
        """Remove what was logged after `step` and open the files for appending; returns the remaining rows."""
        rows = [row for row in iter_metrics(self.folder / "metrics.jsonl") if row["step"] <= step and step > 0]
        atomic_write(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        atomic_write(self.folder / "samples.md", _samples_until(self.folder / "samples.md", step))
        self._metrics = DurableLog(self.folder / "metrics.jsonl", self._warn)
        self._samples = DurableLog(self.folder / "samples.md", self._warn)
        return rows

    def truncate_to(self, step: int) -> None:
        """Remove what was logged after `step`, after a rollback to it."""
        self._close()
        self._truncate_after(step)
        if self._tensorboard is not None:
            self._tensorboard.truncate_to(step)

    def flush(self) -> None:
        """Sync every row and sample to the disk, before a checkpoint refers to their steps.

        Raises:
            UserError: the disk refuses (exit code 6).
        """
        self._metrics.flush()
        self._samples.flush()

    def _close(self) -> None:
        self._metrics.close()
        self._samples.close()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._close()
            if self._tensorboard is not None:
                self._tensorboard.close()
            plot_runs([self.folder], self.folder / "loss-plot")
        except Exception as e:  # matplotlib raises various errors on a full disk
            if error is None:  # else that error is the more important one
                self._warn(f"cannot draw the loss plot ({describe_error(e, named=True)}); `llm-scratch plot {self.folder}` draws it later")

    def timing_fields(self, model: LanguageModel, tokens: int, seconds: float) -> dict[str, float]:
        """Timing of a step, under `NONDETERMINISTIC_FIELDS`: seconds, tokens per second, MFU, peak memory so far."""
        speed = tokens / max(seconds, 1e-9)
        peak = peak_memory(self.device)
        row = {
            "seconds": seconds,
            "tokens_per_second": speed,
            "mfu": mfu(flops_per_token(model.cfg), speed, self._matmul_flops),
        }
        return row if peak is None else row | {"peak_memory_bytes": peak}

    def log_metrics(self, row: dict[str, float]) -> None:
        """Append a row to metrics.jsonl with the elapsed time, and to TensorBoard until its disk refuses.

        Values that are not finite are left out: JSON cannot express them.

        Raises:
            UserError: the disk has refused for so long that the buffer is full (exit code 6).
        """
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        row = finite | {"elapsed": time.perf_counter() - self._began}
        self._metrics.append(json.dumps(row) + "\n")
        try:
            if self._tensorboard is not None:
                self._tensorboard.write(row)
        except OSError as e:
            self._tensorboard = None
            self._warn(f"TensorBoard logging stopped: {e.strerror or e}; metrics.jsonl continues")

    def log_sample(self, run: Trainer, watcher: Callback) -> None:
        """Generate a continuation of the run's prompt and append it to samples.md; a failure is a warning.

        Sampling uses a random generator of its own, so it does not change the training.
        """
        # The compiled trunk is for whole rows; with a cache it would be recompiled for each length.
        compiled = "hidden" in vars(run.model)
        try:
            with warnings.catch_warnings(action="ignore", category=GenerationWarning):  # reported by `choose_prompt`
                chunks = stream(run.model, run.tokenizer, run.prompt, max_new_tokens=180, temperature=0.8, seed=run.step)
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                text = run.prompt + "".join(chunks)
        except MemoryError:
            raise
        except Exception as e:
            watcher.warn(
                f"no sample at step {run.step} ({describe_error(e, named=True)}); `llm-scratch generate {run.folder}` generates one"
            )
            return
        self._samples.append(f"\n## Step {run.step}, {run.tokens:,} tokens\n\n{text.strip()}\n")
        watcher.sampled(run, text)


class NullLogger(RunLogger):
    """Log files of a rank that does not write: none."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> NullLogger:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def truncate_to(self, step: int) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def timing_fields(self, model: LanguageModel, tokens: int, seconds: float) -> dict[str, float]:
        """No timing."""
        return {}

    def log_metrics(self, row: dict[str, float]) -> None:
        """Do nothing."""

    def log_sample(self, run: Trainer, watcher: Callback) -> None:
        """Do nothing."""
