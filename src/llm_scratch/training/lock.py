"""Lock a run directory: one process at a time writes into it, holds `run.lock` and writes into that file who it is.

The system releases the lock when the process ends, so what a killed process leaves behind does not block the next one.
Where the file system has no locks (some network file systems), a warning says so.
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
    """The right to write into a run directory; `check` says whether it is still there."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def exists(self) -> bool:
        """Whether the lock's file still has its name."""
        try:
            return os.path.samestat(os.fstat(self.number), os.stat(self.folder / NAME))
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """See that the directory is the one that was locked.

        Raises:
            UserError: somebody removed or moved it while it was written to (code 6).
        """
        if not self.exists():
            raise UserError(f"{self.folder} was removed or moved while it was trained in; what it held from now on is lost", RESOURCES)


@contextmanager
def exclusive_writer(folder: Path, warn: Callable[[str], None]) -> Iterator[RunLock]:
    """Hold a run directory inside the block; it is made if it is not there, and what a killed process left half-written goes.

    Raises:
        UserError: another process holds it; says which (code 4). It cannot be made or written (code 6).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take(folder, warn)
    except OSError as e:
        raise UserError(f"{folder} cannot be written: {e.strerror}; choose another --out", RESOURCES) from e
    try:
        os.ftruncate(lock.number, 0)
        os.write(lock.number, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        remove_leftovers(folder)
        yield lock
    finally:
        _release(lock)


def is_locked(folder: Path) -> bool:
    """Whether another process trains in a run directory now. Takes the lock for a moment where it is free."""
    try:
        number = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        try_lock(number)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(number)
    return False


def _release(lock: RunLock) -> None:
    """Remove `run.lock`, then unlock it: a process that opens the file in between finds it removed, and makes a new one."""
    path, is_refused = lock.folder / NAME, False
    if lock.exists():
        try:
            path.unlink()
        except PermissionError:
            is_refused = True
    os.close(lock.number)
    if is_refused and sys.platform == "win32":  # which removes no open file
        with suppress(OSError):  # the next process may have opened it already, and needs it
            path.unlink()


def _take(folder: Path, warn: Callable[[str], None]) -> RunLock:
    """Open `run.lock` and lock it; again if its last holder removed it in between."""
    while True:
        number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        lock = RunLock(folder, number)
        try:
            try_lock(number)
        except BlockingIOError:
            os.close(number)
            who = _holder(folder / NAME)
            raise UserError(f"{folder} is in use: {who} trains there; wait for it, stop it, or choose another --out", CHECKPOINT) from None
        except OSError:
            warn(f"{folder}: file locking is not supported here; make sure that no other process trains in this folder")
        if lock.exists():
            return lock
        os.close(number)


def _holder(path: Path) -> str:
    """Who holds a lock, as it says in the file; it may be about to write it."""
    for _ in range(20):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(path.read_text(encoding="utf-8"))
            return f"process {said['pid']} on {said['host']}"
        sleep(0.01)
    return "another process"
