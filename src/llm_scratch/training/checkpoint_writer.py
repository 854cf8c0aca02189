"""Write checkpoints, in a background thread where that pays.

Up to two consecutive failures are tolerated.

Training hands over `CheckpointData`, plain data, and waits only until weights and optimizer state
are copied; a thread writes the copy while training continues. One save is in progress at a time.
If the copy is small, or does not fit into memory, training waits for the disk instead. A disk that
is full for a while costs nothing; one that stays full ends the run while its last checkpoint is
still recent.
Tests: tests/training/test_checkpoint_writer.py, tests/reliability/test_r05_full_disk.py,
tests/reliability/test_r12_saves.py.
Source: copy first, then write, as in CheckFreq, Mohan et al. 2021,
https://www.usenix.org/conference/fast21/presentation/mohan.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from torch import Tensor

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import checkpoint
from llm_scratch.tokenizers import Tokenizer, save_tokenizer
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.fault_injection import FaultHook, no_fault
from llm_scratch.training.lock import RunLock

MAX_FAILURES = 3  # consecutive failed saves that end a run
MIN_ASYNC_BYTES = 2**25  # smaller checkpoints are written while training waits: that is fast
MEMORY_FACTOR = 2  # copies that must fit into free memory before one is made
THREAD_NICENESS = 10  # the saving thread gets a tenth of a core that training needs too
RETRY_DELAY_SECONDS = 1.0  # before a last save is tried again


@dataclass(frozen=True)
class CheckpointData:
    """A run at one step, as plain data: the content of a checkpoint (see `storage.checkpoint`)."""

    step: int
    config: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    tokenizer: Tokenizer | None = None

    @property
    def best(self) -> float:
        """The lowest validation loss up to this step."""
        return float(self.state["best"])

    def write(
        self, run: Path, is_best: bool, before_save: Callable[[], None] = lambda: None
    ) -> None:
        """Write it into a run directory; `is_best` and `before_save` as for `checkpoint.save`."""
        checkpoint.save(
            run,
            self.step,
            self.config,
            self.weights,
            self.optimizer,
            self.state,
            self._write_tokenizer,
            is_best,
            before_save,
        )

    def _write_tokenizer(self, folder: Path) -> None:
        if self.tokenizer is not None:
            save_tokenizer(self.tokenizer, folder)


class CheckpointWriter:
    """Write the checkpoints of a run on rank 0, and keep track of the best.

    Too many failed saves end the run.

    As a context manager it waits for the save in progress on exit. All methods are collective
    calls: every rank has a writer.

    Args:
        lock: of the run directory, checked before each save; None on ranks that do not write.
        warn: called with a message when a save fails.
        before_save: called before each save, by the thread that writes.
        best: lowest validation loss so far.
        distributed: the processes of the run.
        inject_fault: wraps each save, for tests.

    Attributes:
        best: lowest validation loss among the saved checkpoints, or that at the start. A loss whose
            checkpoint could not be written does not count.
    """

    def __init__(
        self,
        lock: RunLock | None,
        warn: Callable[[str], None],
        before_save: Callable[[], None] = lambda: None,
        best: float = math.inf,
        distributed: Distributed | None = None,
        inject_fault: FaultHook = no_fault,
    ) -> None:
        self.lock = lock
        self.best = best
        self.failed = 0
        self._warn = warn
        self._before_save = before_save
        self._distributed = distributed or Distributed()
        self._inject_fault = inject_fault
        self._worker = futures.ThreadPoolExecutor(1, "save", _lower_priority)
        self._in_progress: futures.Future[bool] | None = None
        self._submitted_best = best

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.shutdown()

    def submit(
        self, data: CheckpointData, *, in_background: bool = False, is_last: bool = False
    ) -> None:
        """Write a checkpoint; a new `best` is marked as such. Call `wait` before the next one.

        Args:
            data: on ranks that do not write, its tensors are not needed.
            in_background: return at once; `data` must then hold copies.
            is_last: no more steps follow, so a failure is retried until it counts as the third.
        Raises:
            UserError: as `wait`, if `is_last`.
        """
        is_best = data.best < self.best
        self._submitted_best = data.best
        if is_last:
            self._distributed.broadcast(
                self.lock is None or self._write(self.lock, data, is_best, is_last)
            )
        elif self.lock is not None:
            self._in_progress = self._worker.submit(self._write, self.lock, data, is_best, is_last)
            if not in_background:
                futures.wait([self._in_progress])

    def wait(self) -> float:
        """Wait for the save in progress; returns `best`.

        Raises:
            UserError: the third consecutive failure, or the run directory is gone (exit code 6).
        """
        save, self._in_progress = self._in_progress, None
        is_saved = self._distributed.broadcast(save is None or save.result())
        if is_saved:
            self.best = self._submitted_best
        self._submitted_best = self.best
        return self.best

    def restart(self, best: float) -> None:
        """Continue after a rollback to a checkpoint with this lowest validation loss."""
        self.best = self._submitted_best = best

    def _write(self, lock: RunLock, data: CheckpointData, is_best: bool, is_last: bool) -> bool:
        """Write a checkpoint; False if it failed and training may continue."""
        lock.check()
        while True:
            try:
                with self._inject_fault(data.step, None):
                    data.write(lock.folder, is_best, self._before_save)
            except UserError as e:
                self.failed += 1
                if e.code != RESOURCES:
                    raise
                if self.failed >= MAX_FAILURES:
                    raise UserError(f"{e} ({self.failed} saves in a row failed)", RESOURCES) from e
                self._warn(f"{e} (training continues; the next save tries again)")
                if not is_last:
                    return False
                sleep(RETRY_DELAY_SECONDS)
            else:
                self.failed = 0
                return True


def should_save_async(wanted: str, size: int, free: int | None) -> bool:
    """Whether to write checkpoints in the background.

    Args:
        wanted: "yes", "no" or "auto" (`SystemConfig.async_save`).
        size: bytes of a copy of the state.
        free: bytes of free memory; None: unknown.
    """
    if wanted != "auto":
        return wanted == "yes"
    return size > MIN_ASYNC_BYTES and (free is None or free > MEMORY_FACTOR * size)


def _lower_priority() -> None:
    """Lower the priority of this thread: with all cores busy, a step waited seconds for it."""
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)
