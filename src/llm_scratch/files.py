"""Files that are either whole or not there: what is written stands under its final name only once it is complete.

Proof: tests/test_files.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_scratch.errors import RESOURCES, UserError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it becomes `path` when the block ends well, and is removed when it does not.

    The data is flushed to the disk before the rename, so a power cut leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written (code 6).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; free some space or choose another folder", RESOURCES) from e
    finally:
        with suppress(OSError):
            part.unlink()


def write_whole(path: str | Path, data: str | bytes) -> None:
    """Write a small file whole or not at all; text as UTF-8 with \\n line ends."""
    with whole_file(path) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
