"""Append-only log file that buffers lines while the disk is full and writes them later.

Tests: tests/training/test_append_log.py, tests/reliability/test_r05_full_disk.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files

MAX_BUFFER_BYTES = 2**22  # bytes that may wait for the disk before writing them must succeed


class DurableLog:
    """A text file to append to, which survives failed writes and flushes.

    Everything since the last successful `flush` is kept in memory: after a failed flush it is
    unknown what reached the disk, so all of it is written again, at the same offset. One thread may
    flush while another appends; the append does not wait for the disk.

    Args:
        path: the file; text is appended to what it holds.
        warn: called with a message when a write fails, once until a write succeeds.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._has_failed = False
        self._state_lock = threading.RLock()  # for the fields below; not held while the disk syncs
        self._flush_lock = threading.Lock()
        self._file: FileIO | None = None
        self._synced = 0  # bytes that are known to be on the disk
        self._buffer = bytearray()  # the text after them
        self._written = 0  # bytes of the buffer that the operating system has taken

    def append(self, text: str) -> None:
        """Append text. If writing fails, the text is kept and written with the next call.

        Raises:
            UserError: writing fails and the buffer is full (exit code 6).
        """
        with self._state_lock:
            self._buffer += text.encode("utf-8", "replace")
            try:
                if len(self._buffer) <= MAX_BUFFER_BYTES:
                    self._write()
                    return
            except OSError as e:
                if not self._has_failed:
                    self._has_failed = True  # first: the warning may be appended to this very log
                    self._warn(
                        f"cannot write {self.path}: {e.strerror};"
                        " its lines are kept in memory and written once that is possible"
                    )
                return
        self.flush()

    def flush(self) -> None:
        """Sync everything to the disk, as before a checkpoint that refers to it.

        Raises:
            UserError: writing fails (exit code 6); the text stays in memory.
        """
        with self._flush_lock:
            try:
                with self._state_lock:
                    if size := len(self._buffer):
                        self._write()
                if size:
                    files.filesystem.flush(self.path)
            except OSError as e:
                with self._state_lock:
                    self._written = 0
                raise UserError(
                    f"cannot write {self.path}: {e.strerror};"
                    " free some space or check its permissions",
                    RESOURCES,
                ) from e
            with self._state_lock:
                self._synced += size
                self._written -= size
                del self._buffer[:size]

    def close(self) -> None:
        """Write the buffer and close the file; a failure is a warning."""
        try:
            self._write()
        except OSError as e:
            self._has_failed = True
            lost = len(self._buffer) - self._written
            self._warn(f"{self.path}: the last {lost} bytes could not be written: {e.strerror}")
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        if self._file is None:
            self.path.touch()
            # unbuffered, so that `append` returns what was taken
            self._file = FileIO(self.path, "r+")
            self._synced = self.path.stat().st_size
        while self._written < len(self._buffer):
            offset = self._synced + self._written
            rest = bytes(self._buffer[self._written :])
            self._written += files.filesystem.append(self._file, offset, rest)
        self._has_failed = False
