"""Lock a run directory, so that one process at a time writes into it.

The writer holds a lock on `run.lock` and stores its process id and host there. The operating system
releases the lock when the process ends, so a killed process does not block the next one.
Tests: tests/training/test_lock.py, tests/reliability/test_r09_lock.py, tests/machines (Windows).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.storage.file_lock import try_lock
from llm_scratch.storage.files import remove_leftovers

NAME = "run.lock"


class RunLock:
    """A held lock of a run directory; `check` fails if the directory was removed or moved."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.descriptor = descriptor

    def exists(self) -> bool:
        """Whether the lock file is still in its place."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.folder / NAME))
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Check that the directory is still the one that was locked.

        Raises:
            UserError: it was removed or moved (exit code 6).
        """
        if not self.exists():
            raise UserError(
                f"{self.folder}: removed or moved during training;"
                " checkpoints cannot be saved from now on",
                RESOURCES,
            )


@contextmanager
def exclusive_writer(folder: Path, warn: Callable[[str], None]) -> Iterator[RunLock]:
    """Hold the lock of a run directory inside the block; creates it, and removes unfinished files.

    Raises:
        UserError: another process holds the lock (exit code 4); the directory cannot be created or
            written (exit code 6).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take(folder, warn)
    except OSError as e:
        raise UserError(
            f"{folder} cannot be written: {e.strerror}; choose another --out", RESOURCES
        ) from e
    try:
        os.ftruncate(lock.descriptor, 0)
        os.write(
            lock.descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        )
        remove_leftovers(folder)
        yield lock
    finally:
        _release(lock)


def is_locked(folder: Path) -> bool:
    """Whether another process trains in a run directory now. A free lock is taken for a moment."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        try_lock(descriptor)
    except BlockingIOError:
        return True
    except OSError:  # file locking is not supported
        return False
    finally:
        os.close(descriptor)
    return False


def _release(lock: RunLock) -> None:
    """Remove `run.lock`, then unlock it.

    A process that opens it in between sees that it was removed, and retries.
    """
    path = lock.folder / NAME
    is_refused = False
    if lock.exists():
        try:
            path.unlink()
        except OSError:  # it remains, unlocked, which does not prevent the next run
            is_refused = True
    os.close(lock.descriptor)
    if is_refused and sys.platform == "win32":  # Windows cannot remove an open file
        with suppress(OSError):  # the next process may hold it already
            path.unlink()


def _take(folder: Path, warn: Callable[[str], None]) -> RunLock:
    """Open `run.lock` and lock it; retry if its last holder removed it in between."""
    while True:
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        lock = RunLock(folder, descriptor)
        try:
            try_lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            holder = _holder(folder / NAME)
            raise UserError(
                f"{folder} is in use: {holder} trains there;"
                " wait for it, stop it, or choose another --out",
                CHECKPOINT,
            ) from None
        except OSError:
            warn(
                f"{folder}: file locking is not supported here;"
                " make sure that no other process trains in this folder"
            )
        if lock.exists():
            return lock
        os.close(descriptor)


def _holder(path: Path) -> str:
    """Describe the process that holds a lock, from a lock file that may not be written yet."""
    for _ in range(20):
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(path.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']}"
        sleep(0.01)
    return "another process"
