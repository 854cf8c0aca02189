"""What a run leaves on paper, and who may watch it: metrics.jsonl, samples.md, config.yaml, env.json, the loss plot.

A row of metrics.jsonl is what was learned (the same whenever the run is repeated) and, under `TIMED_FIELDS`, what it took.

Proof: tests/training/test_run_logger.py.
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
from torch import nn

from llm_scratch import __version__
from llm_scratch.config import RunConfig, config_hash, dump_config
from llm_scratch.errors import GenerationWarning, describe_error
from llm_scratch.generation.decode import stream
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops
from llm_scratch.hardware.flops import flops_per_token, mfu
from llm_scratch.hardware.memory import peak_memory
from llm_scratch.hardware.processor import processor_name
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.append_log import DurableLog
from llm_scratch.training.plot import plot_runs
from llm_scratch.training.tensorboard import TensorBoardLogger

if TYPE_CHECKING:
    from llm_scratch.training.loop import Trainer

NONDETERMINISTIC_FIELDS = ("seconds", "elapsed", "tokens_per_second", "mfu", "peak_memory_bytes")
"""Of a row: what depends on the machine and on the moment, `elapsed` being the run's seconds so far. All else repeats with the run."""


class Callback:
    """Someone who is told how a run goes, and does nothing about it; the command line's progress bar is one that does."""

    def started(self, run: Trainer, resumed: bool) -> None:
        """The first step is about to be done."""

    def step(self, run: Trainer, row: dict[str, float]) -> None:
        """A step is done; `row` has step, tokens, loss, bits_per_byte, lr, grad_norm and `TIMED_FIELDS`."""

    def evaluated(self, run: Trainer, scores: dict[str, float]) -> None:
        """The held-out loss was measured; `scores` has train_loss, val_loss, val_bits_per_byte."""

    def sampled(self, run: Trainer, text: str) -> None:
        """The model wrote something."""

    def finished(self, run: Trainer) -> None:
        """The last step is done and saved."""

    def note(self, message: str) -> None:
        """Something that is as it should be, and worth a line."""
        print(message)

    def warn(self, message: str) -> None:
        """Something is not as it should be, and the run goes on."""
        print(f"warning: {message}")


class NullCallback(Callback):
    """One who says nothing: the watcher of a process that does not write."""

    def note(self, message: str) -> None:
        """Nothing; the process that writes says it."""

    def warn(self, message: str) -> None:
        """Nothing; the process that writes says it."""


def iter_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl; a torn last line (the machine stopped while it was written) is left out."""
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
    """What samples.md says up to `step`; its heading alone for a new run."""
    if step == 0 or not path.is_file():
        return "# What the model wrote as it learned\n"
    text = path.read_text(encoding="utf-8", errors="replace")
    later = (found.start() for found in re.finditer(r"\n## Step (\d+), [\d,]+ tokens\n", text) if int(found[1]) > step)
    return text[: next(later, len(text))]


def environment(device: torch.device) -> dict[str, Any]:
    """Where a run was made: versions, machine, its measured matrix rate in FLOP/s, the commit if there is one."""
    try:
        here = Path(__file__).resolve().parent
        ask = ["git", "rev-parse", "HEAD"]
        found = subprocess.run(ask, cwd=here, capture_output=True, encoding="utf-8", errors="replace", timeout=5)
        commit = found.stdout.strip()
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
    """The papers of one run. On resume, what was written after the checkpoint is taken out, so that no step stands twice.

    Args:
        config: the run's settings; written as config.yaml.
        folder: the run directory.
        step: where the run goes on; 0 for a new one.
        device: what the run computes on.
        processes: how many share its steps, each on such a device.
        warn: is told when the disk takes no more; rows and samples wait then (see page.py).
    """

    def __init__(
        self, config: RunConfig, folder: Path, step: int, device: torch.device | str = "cpu", processes: int = 1,
        warn: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.folder, self.device, self._warn = folder, torch.device(device), warn
        said = environment(self.device)
        self._matrix_rate, self._flops = float(said["matrix_rate"]) * processes, 0
        atomic_write(folder / "config.yaml", f"# settings {config_hash(config)}\n{dump_config(config)}")
        atomic_write(folder / "env.json", json.dumps(said, indent=1) + "\n")
        rows = self._cut(step)
        self._board = TensorBoardLogger(folder / "tensorboard", step) if config.machine.tensorboard else None
        self._began = time.perf_counter() - max((row.get("elapsed", 0.0) for row in rows), default=0.0)

    def __enter__(self) -> RunLogger:
        return self

    def _cut(self, step: int) -> list[dict[str, Any]]:
        """Take out what was written after `step`, and go on from there; returns the rows that stay."""
        rows = [row for row in iter_metrics(self.folder / "metrics.jsonl") if row["step"] <= step and step > 0]
        atomic_write(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        atomic_write(self.folder / "samples.md", _samples_until(self.folder / "samples.md", step))
        self._metrics, self._samples = (DurableLog(self.folder / name, self._warn) for name in ("metrics.jsonl", "samples.md"))
        return rows

    def truncate_to(self, step: int) -> None:
        """Take out what was written after `step`, from where the run goes on once more."""
        self._close()
        self._cut(step)
        if self._board is not None:
            self._board.truncate_to(step)

    def flush(self) -> None:
        """Have every row and sample on the disk for certain, before a checkpoint tells of their steps.

        Raises:
            UserError: the disk refuses (code 6).
        """
        self._metrics.flush()
        self._samples.flush()

    def _close(self) -> None:
        self._metrics.close()
        self._samples.close()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._close()
            if self._board is not None:
                self._board.close()
            plot_runs([self.folder], self.folder / "loss-plot")
        except Exception as e:  # on a full disk matplotlib raises what it happens to; an error that is on its way says more
            if error is None:
                self._warn(f"no picture of the losses ({describe_error(e, named=True)}); `llm-scratch plot {self.folder}` draws it")

    def timing_fields(self, model: nn.Module, tokens: int, seconds: float) -> dict[str, float]:
        """What a step took, under `TIMED_FIELDS`: time, speed, share of the machine's matrix rate, memory held at most so far."""
        self._flops = self._flops or flops_per_token(model)
        speed, held = tokens / max(seconds, 1e-9), peak_memory(self.device)
        row = {"seconds": seconds, "tokens_per_second": speed, "mfu": mfu(self._flops, speed, self._matrix_rate)}
        return row if held is None else row | {"peak_memory_bytes": held}

    def log_metrics(self, row: dict[str, float]) -> None:
        """Append one row to metrics.jsonl, and when in the run it was; TensorBoard gets it too, until its disk refuses.

        Values that are not finite are left out, as JSON has no word for them.

        Raises:
            UserError: the disk has refused for so long that too much waits (code 6).
        """
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        row = finite | {"elapsed": time.perf_counter() - self._began}
        self._metrics.append(json.dumps(row) + "\n")
        try:
            if self._board is not None:
                self._board.write(row)
        except OSError as e:
            self._board = None
            self._warn(f"TensorBoard gets no more of this run: {e.strerror or e}; metrics.jsonl does")

    def log_sample(self, run: Trainer, watcher: Callback) -> None:
        """Let the model continue the run's prompt, into samples.md; a failure is a warning, as training does not depend on it.

        Draws from a generator of its own, so the training itself stays the same.
        """
        compiled = "hidden" in vars(run.model)  # for whole rows; with a cache it would be compiled again for one length after another
        try:
            with warnings.catch_warnings(action="ignore", category=GenerationWarning):  # `choose_prompt` has reported it once
                pieces = stream(run.model, run.tokenizer, run.prompt, max_new_tokens=180, temperature=0.8, seed=run.step)
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                text = run.prompt + "".join(pieces)
        except MemoryError:
            raise
        except Exception as e:
            watcher.warn(f"no sample at step {run.step} ({describe_error(e, named=True)}); `llm-scratch generate {run.folder}` writes one")
            return
        self._samples.append(f"\n## Step {run.step}, {run.tokens:,} tokens\n\n{text.strip()}\n")
        watcher.sampled(run, text)


class NullLogger(RunLogger):
    """The papers of a process that does not write: none."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> NullLogger:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def truncate_to(self, step: int) -> None:
        """Nothing was written."""

    def flush(self) -> None:
        """There is nothing to flush."""

    def timing_fields(self, model: nn.Module, tokens: int, seconds: float) -> dict[str, float]:
        """Nobody reads it."""
        return {}

    def log_metrics(self, row: dict[str, float]) -> None:
        """Nobody reads it."""

    def log_sample(self, run: Trainer, watcher: Callback) -> None:
        """The process that writes does."""
