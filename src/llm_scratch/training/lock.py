"""One process at a time writes into a run directory: it holds `run.lock`, and says in it who it is.

The system lets go of the lock when its process ends, however it ends: what a killed process left stops nobody.
Where the disk knows no such locks (some network file systems; Windows), nothing is held, and that is said.
Proof: tests/training/test_lock.py, tests/reliability/test_r09_lock.py.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.files import remove_leftovers

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "run.lock"


class RunLock:
    """The right to write into a run directory; `check` says whether it is still there."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def is_there(self) -> bool:
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
        if not self.is_there():
            raise UserError(f"{self.folder} was removed or moved while it was trained in; what it held from now on is lost", RESOURCES)


@contextmanager
def only_writer(folder: Path, warn: Callable[[str], None]) -> Iterator[RunLock]:
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
        os.pwrite(lock.number, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        remove_leftovers(folder)
        yield lock
    finally:
        if lock.is_there():
            (folder / NAME).unlink()
        os.close(lock.number)


def _take(folder: Path, warn: Callable[[str], None]) -> RunLock:
    """Open `run.lock` and lock it; again if its last holder removed it in between."""
    while True:
        number = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        lock = RunLock(folder, number)
        try:
            if fcntl is None:
                raise OSError("no flock")
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            who = _holder(folder / NAME)
            raise UserError(f"{folder} is in use: {who} trains there; wait for it, stop it, or choose another --out", CHECKPOINT) from None
        except OSError:
            warn(f"the disk of {folder} knows no locks; see that no other process trains there")
        if lock.is_there():
            return lock
        os.close(number)


def _holder(path: Path) -> str:
    """Who holds a lock, as it says in the file; it may be about to write it."""
    for _ in range(20):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(path.read_text(encoding="utf-8"))
            return f"process {said['pid']} on {said['host']}"
        time.sleep(0.01)
    return "another process"
