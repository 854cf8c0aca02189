"""Atomic writes: a file or folder gets its final name only once it is complete.

All data that a run must not lose is written through `filesystem`, which tests replace by one that
records every operation, or one that is full.
Tests: tests/storage/test_files.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError


class FileSystem:
    """The six file operations of this project, each with its guarantee after a power cut."""

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents; durable once their parent is flushed."""
        path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        """Write and flush a new file; its name is durable once its folder is flushed."""
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def append(self, file: FileIO, offset: int, data: bytes) -> int:
        """Write to an open file at `offset`; returns the bytes written, durable once flushed."""
        file.seek(offset)
        return file.write(data)

    def flush(self, path: Path) -> None:
        """Flush the content of a file, or the names in a folder, to disk."""
        if path.is_dir() and os.name == "nt":
            return  # Windows flushes names by itself and cannot open folders
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file or folder, replacing a file; a power cut leaves one of the two names."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with its content; a missing path is ignored."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


filesystem = FileSystem()
"""The file system in use."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Context manager for an atomic write: yields a temporary path, renamed to `path` at the end.

    After an exception the temporary file is removed. The data is flushed before the rename, so a
    power cut leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written (code 6).
    """
    path = Path(path)
    with _temporary(path) as part:
        filesystem.make_folder(path.parent)
        yield part
        filesystem.flush(part)
        filesystem.rename(part, path)
        filesystem.flush(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Context manager for a folder that appears whole: yields a temporary one, renamed at the end.

    After an exception the temporary folder is removed. Files that must survive a power cut are
    flushed by the caller, as `FileSystem.write` does.

    Args:
        path: missing, or an empty folder.
    Raises:
        UserError: the disk is full or the parent folder cannot be written (code 6).
    """
    path = Path(path)
    with _temporary(path) as part:
        filesystem.make_folder(part)
        yield part
        if path.exists():
            path.rmdir()
        filesystem.rename(part, path)
        filesystem.flush(path.parent)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, removed at the end if it is still there."""
    part = path.absolute().with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
    except OSError as e:
        raise UserError(
            f"cannot write {path}: {e.strerror or e}; free disk space or choose another folder",
            RESOURCES,
        ) from e
    finally:
        with suppress(OSError):
            filesystem.remove(part)


def atomic_write(path: str | Path, data: str | bytes) -> None:
    """Write a small file atomically; text as UTF-8 with \\n line ends."""
    with atomic_file(path) as part:
        filesystem.write(part, [data.encode("utf-8") if isinstance(data, str) else data])


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `atomic_file` whose processes ended without cleaning up."""
    for part in folder.glob(".*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdigit() and not _is_running(int(pid)):
            filesystem.remove(part)


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would terminate the process on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # a process of another user
    return True


def is_new_or_empty(path: Path) -> bool:
    """Whether a folder can be filled at `path` without touching anything: none, or an empty one."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
