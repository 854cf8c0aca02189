"""Files that are either whole or not there: what is written stands under its final name only once it is complete.

Everything that a run must not lose goes through `disk`, so that a test can put another one in its place: one that keeps a
record of every operation, or one that is full.
Tests: tests/storage/test_files.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError


class FileSystem:
    """The six operations by which files come to be. What they leave behind after a power cut is said at each."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it; they last once the folder that they are in is flushed."""
        path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a new file and flush it: what is in it lasts; its name does once its folder is flushed."""
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def append(self, file: FileIO, place: int, data: bytes) -> int:
        """Write into an open file from byte `place` on; returns how many bytes were taken. They last once it is flushed."""
        file.seek(place)
        return file.write(data)

    def flush(self, path: Path) -> None:
        """Wait until the disk has a file's content, or the names in a folder."""
        if path.is_dir() and os.name == "nt":
            return  # Windows keeps names by itself, and does not open folders
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name, in place of a file that has it; after a power cut it is there under one of the two."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all that is in it; nothing happens if there is none."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


filesystem = FileSystem()
"""The disk in use."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it becomes `path` when the block ends well, and is removed when it does not.

    The data is flushed to the disk before the rename, so a power cut leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written (code 6).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        filesystem.make_folder(path.parent)
        yield part
        filesystem.flush(part)
        filesystem.rename(part, path)
        filesystem.flush(path.parent)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; free some space or choose another folder", RESOURCES) from e
    finally:
        with suppress(OSError):
            filesystem.remove(part)


def atomic_write(path: str | Path, data: str | bytes) -> None:
    """Write a small file whole or not at all; text as UTF-8 with \\n line ends."""
    with atomic_file(path) as part:
        filesystem.write(part, [data.encode("utf-8") if isinstance(data, str) else data])


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written files of `whole_file` in a folder whose processes have ended without cleaning up."""
    for part in folder.glob(".*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdigit() and not _is_running(int(pid)):
            filesystem.remove(part)


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # asking there would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def format_bytes(n_bytes: float) -> str:
    """A number of bytes for people: "7.3 MB"."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"
