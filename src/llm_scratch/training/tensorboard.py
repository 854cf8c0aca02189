"""Write the metrics of a run for TensorBoard (`tensorboard --logdir runs`).

metrics.jsonl stays the primary log. Tests: tests/training/test_tensorboard.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.extras import install_command

NAMES = {
    "loss": "loss/batch", "train_loss": "loss/training", "val_loss": "loss/validation",
    "bits_per_byte": "bits per byte/batch", "val_bits_per_byte": "bits per byte/validation",
    "lr": "training/learning rate", "grad_norm": "training/gradient norm",
    "tokens": "training/tokens", "passes": "training/epochs",
    "seconds": "system/seconds per step", "tokens_per_second": "system/tokens per second", "mfu": "system/MFU",
    "peak_memory_bytes": "system/peak memory", "elapsed": "system/elapsed seconds",
}  # fmt: skip


class TensorBoardLogger:
    """Write rows of metrics for TensorBoard.

    Args:
        folder: of the event files; `tensorboard` in the run directory.
        step: the step to resume at; rows of later steps are hidden.
    Raises:
        UserError: the package is not installed (extra `track`).
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise UserError(f"--system.tensorboard needs the extra `track`; run {install_command('track')}, or leave the flag out") from e
        self._open = lambda step: SummaryWriter(str(folder), purge_step=step + 1)
        try:
            self._writer = self._open(step)
        except OSError as e:
            raise UserError(f"cannot write {folder}: {e.strerror}; free some space or choose another --out", RESOURCES) from e

    def write(self, row: Mapping[str, float]) -> None:
        """Write the values of a row of metrics.jsonl."""
        for key, value in row.items():
            if key != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(NAMES.get(key, f"training/{key}"), value, int(row["step"]))

    def truncate_to(self, step: int) -> None:
        """Hide rows of later steps, after a rollback to `step`."""
        self.close()
        self._writer = self._open(step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
