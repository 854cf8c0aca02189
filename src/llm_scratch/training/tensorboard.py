"""Write the metrics of a run for TensorBoard (`tensorboard --logdir runs`).

metrics.jsonl stays the primary log.
Tests: tests/training/test_tensorboard.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.extras import install_command
from llm_scratch.training.callbacks import Callback, TrainState

NAMES = {
    "loss": "loss/batch",
    "train_loss": "loss/training",
    "val_loss": "loss/validation",
    "bits_per_byte": "bits per byte/batch",
    "val_bits_per_byte": "bits per byte/validation",
    "lr": "training/learning rate",
    "grad_norm": "training/gradient norm",
    "tokens": "training/tokens",
    "passes": "training/epochs",
    "seconds": "system/seconds per step",
    "tokens_per_second": "system/tokens per second",
    "mfu": "system/MFU",
    "peak_memory_bytes": "system/peak memory",
    "elapsed": "system/elapsed seconds",
}


class TensorBoardLogger(Callback):
    """Write the rows of metrics.jsonl for TensorBoard, into `tensorboard` in the run directory.

    Args:
        warn: called with a message when writing fails; logging for TensorBoard then stops.
    Raises:
        UserError: the package is not installed (extra `track`).
    """

    def __init__(self, warn: Callable[[str], None] = print) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise UserError(
                "--system.tensorboard needs the extra `track`;"
                f" run {install_command('track')}, or leave the flag out"
            ) from e
        self._open = SummaryWriter
        self._warn = warn
        self._writer: Any = None

    def started(self, state: TrainState, resumed: bool) -> None:
        """Open an event file; rows after `state.step` are hidden.

        Raises:
            UserError: the folder cannot be written (exit code 6).
        """
        folder = state.folder / "tensorboard"
        try:
            self._writer = self._open(str(folder), purge_step=state.step + 1)
        except OSError as e:
            raise UserError(
                f"cannot write {folder}: {e.strerror}; free some space or choose another --out",
                RESOURCES,
            ) from e

    def logged(self, state: TrainState, row: dict[str, float]) -> None:
        """Write the values of a row; after a failed write, do nothing."""
        if self._writer is None:
            return
        try:
            for key, value in row.items():
                if key != "step":
                    self._writer.add_scalar(
                        NAMES.get(key, f"training/{key}"), value, int(row["step"])
                    )
        except OSError as e:
            self._writer = None
            self._warn(f"TensorBoard logging stopped: {e.strerror or e}; metrics.jsonl continues")

    def rolled_back(self, state: TrainState) -> None:
        """Hide rows after the step of the rollback."""
        if self._writer is not None:
            self._writer.close()
            self.started(state, resumed=True)

    def closed(self, state: TrainState, error: BaseException | None) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()
