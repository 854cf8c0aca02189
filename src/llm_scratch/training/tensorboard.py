"""The curves of a run for TensorBoard, where one likes to watch them there: `tensorboard --logdir runs`.

metrics.jsonl stays what counts; this is the same numbers in another place. Proof: tests/training/test_tensorboard.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.extras import install_command

NAMES = {
    "loss": "loss/of the batch", "train_loss": "loss/learned text", "val_loss": "loss/held-out text",
    "bits_per_byte": "bits per byte/of the batch", "val_bits_per_byte": "bits per byte/held-out text",
    "lr": "training/learning rate", "grad_norm": "training/length of the gradient",
    "tokens": "training/tokens", "passes": "training/passes over the text",
    "seconds": "machine/seconds a step", "tokens_per_second": "machine/tokens per second", "mfu": "machine/MFU",
    "peak_memory_bytes": "machine/memory held at most", "elapsed": "machine/seconds so far",
}  # fmt: skip


class TensorBoardLogger:
    """Writes rows of metrics for TensorBoard.

    Args:
        folder: where; `tensorboard` in the run directory.
        step: where the run goes on; what was written of later steps is hidden.
    Raises:
        UserError: the package is not installed (it is in the extra `track`).
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise UserError(f"--machine.tensorboard needs the extra `track`: {install_command('track')}; or leave the flag out") from e
        self._open = lambda step: SummaryWriter(str(folder), purge_step=step + 1)
        try:
            self._writer = self._open(step)
        except OSError as e:
            raise UserError(f"cannot write {folder}: {e.strerror}; free some space or choose another --out", RESOURCES) from e

    def write(self, row: Mapping[str, float]) -> None:
        """Add the numbers of a row of metrics.jsonl."""
        for key, value in row.items():
            if key != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(NAMES.get(key, f"training/{key}"), value, int(row["step"]))

    def truncate_to(self, step: int) -> None:
        """Hide what was written of later steps, as the run goes on from `step` once more."""
        self.close()
        self._writer = self._open(step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
