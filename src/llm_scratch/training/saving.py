"""A save may fail, and the run goes on: only the third in a row, or one that was the last, ends it.

A disk that is full for an hour costs nothing then, and one that stays full ends the run while its last checkpoint is still near.
Proof: tests/training/test_saving.py, tests/reliability/test_r05_full_disk.py.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_scratch import files
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.training import faults
from llm_scratch.training.lock import RunLock

CHANCES = 3
PAUSE = 1.0  # seconds before a last save is tried again


class Saves:
    """Counts the saves that failed in a row, and decides what follows."""

    def __init__(self, lock: RunLock, warn: Callable[[str], None]) -> None:
        self.lock, self.warn, self.failed = lock, warn, 0

    def attempt(self, save: Callable[[], None], step: int, last: bool) -> bool:
        """Save; False if it failed and the run is to go on. One that is the `last` is tried again at once.

        Raises:
            UserError: it failed for the third time in a row, or the run directory is gone (code 6).
        """
        self.lock.check()
        while True:
            try:
                with _trouble(faults.at("save", step)):
                    save()
            except UserError as e:
                self.failed += 1
                if e.code != RESOURCES:
                    raise
                if self.failed >= CHANCES:
                    raise UserError(f"{e} ({self.failed} saves in a row failed)", RESOURCES) from e
                self.warn(f"{e} (the run goes on and tries again)")
                if not last:
                    return False
                time.sleep(PAUSE)
            else:
                self.failed = 0
                return True


class _Killed(files.Disk):
    """A disk on which the process is killed as it gives a file its name."""

    def rename(self, old: Path, new: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class _Full(files.Disk):
    """A disk with no room for the first file."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def _trouble(kind: str | None) -> Iterator[None]:
    """Inside the block the disk has the fault that was ordered; none without an order."""
    if kind is None:
        yield
        return
    before, files.disk = files.disk, {"kill": _Killed, "enospc": _Full}[kind]()
    try:
        yield
    finally:
        files.disk = before
