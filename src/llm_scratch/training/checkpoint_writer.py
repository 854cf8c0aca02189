"""Saves go on in the background, and may fail: only the third in a row that does, or one that was the last, ends the run.

Training waits for a copy of weights and optimizer and no longer; a thread brings the copy to the disk while the next steps are done. One
save is under way at a time. Where the copy is small, or memory has no room for it, training waits for the disk.
A disk that is full for an hour costs nothing, and one that stays full ends the run while its last checkpoint is still near.
Proof: tests/training/test_checkpoint_writer.py, tests/reliability/test_r05_full_disk.py, tests/reliability/test_r12_saves.py.
Source: the copy first, then the disk, as CheckFreq does, Mohan et al. 2021, https://www.usenix.org/conference/fast21/presentation/mohan.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files
from llm_scratch.training import fault_injection
from llm_scratch.training.lock import RunLock

MAX_FAILURES = 3
SMALL = 2**25  # bytes that the disk has so soon that training may as well wait
MEMORY_FACTOR = 2  # copies that free memory must have room for, before one is made
THREAD_NICENESS = 10  # of the thread that saves: it gets a tenth of a core that training wants too
RETRY_DELAY_SECONDS = 1.0  # seconds before a last save is tried again


class CheckpointWriter:
    """Carries saves out, counts those that failed in a row, and decides what follows. On leaving the block, all of them are done."""

    def __init__(self, lock: RunLock, warn: Callable[[str], None]) -> None:
        self.lock, self.warn, self.failed = lock, warn, 0
        self._worker = futures.ThreadPoolExecutor(1, "save", _lower_priority)
        self._under_way: futures.Future[bool] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.shutdown()

    def submit(self, save: Callable[[], object], step: int, waits: bool = False) -> None:
        """Let a save go on in the background, or wait for it. Only one may be under way: `wait` comes in between, and says how it went."""
        self._under_way = self._worker.submit(self.attempt, save, step, False)
        if waits:
            futures.wait([self._under_way])

    def wait(self) -> bool:
        """Wait until no save is under way; False if the last one failed and that was not said yet.

        Raises:
            UserError: as `attempt`.
        """
        under_way, self._under_way = self._under_way, None
        return under_way is None or under_way.result()

    def attempt(self, save: Callable[[], object], step: int, last: bool) -> bool:
        """Save; False if it failed and the run is to go on. One that is the `last` is tried again at once.

        Raises:
            UserError: it failed for the third time in a row, or the run directory is gone (code 6).
        """
        self.lock.check()
        while True:
            try:
                with _trouble(fault_injection.requested_fault("save", step)):
                    save()
            except UserError as e:
                self.failed += 1
                if e.code != RESOURCES:
                    raise
                if self.failed >= MAX_FAILURES:
                    raise UserError(f"{e} ({self.failed} saves in a row failed)", RESOURCES) from e
                self.warn(f"{e} (the run goes on and tries again)")
                if not last:
                    return False
                sleep(RETRY_DELAY_SECONDS)
            else:
                self.failed = 0
                return True


def should_save_async(wanted: str, size: int, free: int | None) -> bool:
    """Whether to save from a copy. `wanted` as `MachineConfig.background_save` says; a copy has `size` bytes, and `free` ones are."""
    return wanted == "yes" if wanted != "auto" else size > SMALL and (free is None or free > MEMORY_FACTOR * size)


def _lower_priority() -> None:
    """Let this thread compute where training leaves a core free. With cores that are all busy, a step waited seconds for it."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)


class _Killed(files.FileSystem):
    """A disk on which the process is killed as it gives a file its name."""

    def rename(self, old: Path, new: Path) -> None:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL; SIGTERM kills there


class _Full(files.FileSystem):
    """A disk with no room for the first file."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def _trouble(kind: str | None) -> Iterator[None]:
    """Inside the block the disk has the fault that was ordered; none without an order."""
    if kind is None:
        yield
        return
    before, files.filesystem = files.filesystem, {"kill": _Killed, "enospc": _Full}[kind]()
    try:
        yield
    finally:
        files.filesystem = before
