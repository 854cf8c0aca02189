"""A page grows line by line and loses none to a full disk: what the disk does not take waits, and is written once there is room.

Proof: tests/training/test_append_log.py, tests/reliability/test_r05_full_disk.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files

MAX_BUFFER_BYTES = 2**22  # bytes that are held at most before the disk must have them


class DurableLog:
    """A text file that lines are added to.

    All that came since the last `flush` is kept: after a failed one nobody knows what the disk has, and it is written again, to the
    same place. One thread may flush while another adds, which does not wait for the disk then.

    Args:
        path: where; lines come after what is there already.
        warn: is told when the disk refuses, once until it takes something again.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path, self._warn, self._refused = path, warn, False
        self._busy = threading.RLock()  # held while what follows changes, and not while the disk is waited for
        self._flushing = threading.Lock()
        self._file: FileIO | None = None
        self._certain = 0  # bytes that the disk has for certain
        self._recent = bytearray()  # what comes after them,
        self._written = 0  # and how much of it the system has taken

    def add(self, text: str) -> None:
        """Add text at the end. What the disk refuses waits for the next time.

        Raises:
            UserError: too much waits (code 6).
        """
        with self._busy:
            self._recent += text.encode("utf-8", "replace")
            try:
                if len(self._recent) <= MAX_BUFFER_BYTES:
                    self._write()
                    return
            except OSError as e:
                if not self._refused:
                    self._refused = True  # before the warning, which may be written on this page
                    self._warn(f"cannot write {self.path}: {e.strerror}; it is kept in memory and written once that is possible")
                return
        self.flush()

    def flush(self) -> None:
        """Have all of it on the disk for certain, as before a checkpoint that tells of it.

        Raises:
            UserError: the disk refuses (code 6); nothing is lost yet.
        """
        with self._flushing:
            try:
                with self._busy:
                    if size := len(self._recent):
                        self._write()
                if size:
                    files.filesystem.flush(self.path)
            except OSError as e:
                with self._busy:
                    self._written = 0
                raise UserError(f"cannot write {self.path}: {e.strerror}; free some space or see to its permissions", RESOURCES) from e
            with self._busy:
                self._certain += size
                self._written -= size
                del self._recent[:size]

    def close(self) -> None:
        """Write what waits, if the disk takes it now; `warn` is told if it does not."""
        try:
            self._write()
        except OSError as e:
            self._refused = True
            self._warn(f"{self.path} lacks its end, {len(self._recent) - self._written} bytes: {e.strerror}")
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        if self._file is None:
            self.path.touch()
            self._file = FileIO(self.path, "r+")  # unbuffered: it says how much was taken
            self._certain = self.path.stat().st_size
        while self._written < len(self._recent):
            self._written += files.filesystem.append(self._file, self._certain + self._written, bytes(self._recent[self._written :]))
        self._refused = False
