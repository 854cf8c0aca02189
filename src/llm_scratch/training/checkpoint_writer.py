"""Write checkpoints in a background thread. Up to two consecutive failures are tolerated.

Training waits only until weights and optimizer state are copied; a thread writes the copy while
training continues. One save is in progress at a time. Where the copy is small, or memory has no
room for it, training waits for the disk. So a disk that is full for an hour costs nothing, and one
that stays full ends the run while its last checkpoint is still recent.
Tests: tests/training/test_checkpoint_writer.py, tests/reliability/test_r05_full_disk.py,
tests/reliability/test_r12_saves.py.
Source: copy first, then write, as in CheckFreq, Mohan et al. 2021,
https://www.usenix.org/conference/fast21/presentation/mohan.
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

MAX_FAILURES = 3  # consecutive failed saves that end a run
MIN_ASYNC_BYTES = 2**25  # smaller checkpoints are written at once: the disk is fast enough
MEMORY_FACTOR = 2  # copies that must fit into free memory before one is made
THREAD_NICENESS = 10  # of the saving thread: it gets a tenth of a core that training needs too
RETRY_DELAY_SECONDS = 1.0  # before a last save is tried again


class CheckpointWriter:
    """Write checkpoints, count consecutive failures, and end the run after too many.

    As a context manager it waits for the save in progress on exit.

    Args:
        lock: of the run directory; checked before each save.
        warn: called with a message when a save fails.
    """

    def __init__(self, lock: RunLock, warn: Callable[[str], None]) -> None:
        self.lock = lock
        self.warn = warn
        self.failed = 0
        self._worker = futures.ThreadPoolExecutor(1, "save", _lower_priority)
        self._in_progress: futures.Future[bool] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.shutdown()

    def submit(self, save: Callable[[], object], step: int, blocking: bool = False) -> None:
        """Start a save in the background; call `wait` before the next one.

        Args:
            save: writes the checkpoint.
            step: the step that it belongs to.
            blocking: wait until it is written.
        """
        self._in_progress = self._worker.submit(self.write, save, step, False)
        if blocking:
            futures.wait([self._in_progress])

    def wait(self) -> bool:
        """Wait for the save in progress; False if it failed.

        Raises:
            UserError: as `write`.
        """
        save, self._in_progress = self._in_progress, None
        return save is None or save.result()

    def write(self, save: Callable[[], object], step: int, last: bool) -> bool:
        """Save; False if it failed and training may continue. The `last` save of a run is retried.

        Raises:
            UserError: the third consecutive failure, or the run directory is gone (exit code 6).
        """
        self.lock.check()
        while True:
            try:
                with _with_fault(fault_injection.requested_fault("save", step)):
                    save()
            except UserError as e:
                self.failed += 1
                if e.code != RESOURCES:
                    raise
                if self.failed >= MAX_FAILURES:
                    raise UserError(f"{e} ({self.failed} saves in a row failed)", RESOURCES) from e
                self.warn(f"{e} (training continues; the next save tries again)")
                if not last:
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
    """Lower the priority of this thread: with all cores busy, a training step waited seconds for it."""
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)


class _Killed(files.FileSystem):
    """A file system that kills the process while it renames a file."""

    def rename(self, old: Path, new: Path) -> None:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL; SIGTERM kills there


class _Full(files.FileSystem):
    """A file system without space for the first file."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def _with_fault(kind: str | None) -> Iterator[None]:
    """Inject the requested fault of `fault_injection.KINDS["save"]` into the file system; None: no fault."""
    if kind is None:
        yield
        return
    before, files.filesystem = files.filesystem, {"kill": _Killed, "enospc": _Full}[kind]()
    try:
        yield
    finally:
        files.filesystem = before
