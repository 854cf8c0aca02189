"""A disk that records its operations, and every state that a power cut could leave.

The model: a name (created, renamed or removed) is certainly on the disk once its folder is flushed
after that, the bytes of a file once the file is. Of names that are not flushed, the disk may lack
all since some moment, or one alone. Bytes that are not flushed may be there, gone, torn at a sector
of 512 bytes, zeros from there on, or all there but for one sector.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import FileIO
from itertools import islice
from pathlib import Path

from llm_scratch.storage.files import FileSystem

SECTOR = 512


@dataclass(frozen=True)
class Op:
    """One recorded operation: create, data, append, folder, rename, unlink or flush.

    All but flush have a `path`; some have `new` or `data`.
    """

    kind: str
    path: str
    data: bytes = b""
    new: str = ""


class RecordingDisk(FileSystem):
    """A real disk that records its operations under `root`, file by file."""

    def __init__(self, root: Path) -> None:
        self.root, self.ops = root, []

    def _note(self, kind: str, path: Path, **more: object) -> None:
        self.ops.append(Op(kind, str(path.relative_to(self.root)), **more))

    def make_folder(self, path: Path) -> None:
        if not path.exists():
            self._note("folder", path)
        super().make_folder(path)

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        self._note("create", path)

        def noted() -> Iterator[bytes | memoryview]:
            for piece in pieces:
                self._note("data", path, data=bytes(piece))
                yield piece

        super().write(path, noted())
        self._note("flush", path)

    def append(self, file: FileIO, place: int, data: bytes) -> int:
        assert place == os.fstat(file.fileno()).st_size, "only the end of a file is written"
        taken = super().append(file, place, data)
        self._note("append", Path(file.name), data=data[:taken])
        return taken

    def flush(self, path: Path) -> None:
        super().flush(path)
        self._note("flush", path)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._note("rename", old, new=str(new.relative_to(self.root)))

    def remove(self, path: Path) -> None:
        doomed = sorted(path.rglob("*"), reverse=True) if path.is_dir() else []
        for each in [*doomed, path]:
            if each.exists():
                self._note("unlink", each)
        super().remove(path)


Files = dict[str, bytes | None]
"""path -> content, None for a folder"""


def read_tree(root: Path) -> Files:
    """The content of every file under a folder."""
    return {
        str(p.relative_to(root)): None if p.is_dir() else p.read_bytes()
        for p in sorted(root.rglob("*"))
    }


def write_tree(root: Path, tree: Files) -> None:
    """The inverse of `read_tree`."""
    for name, data in tree.items():
        path = root / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def damages(size: int) -> dict[str, Callable[[bytes], bytes]]:
    """Every possible state of bytes that were not flushed."""
    found: dict[str, Callable[[bytes], bytes]] = {"all there": lambda data: data}
    for cut in range(0, size, SECTOR):
        found[f"torn at {cut}"] = lambda data, cut=cut: data[:cut]
        found[f"zeros from {cut}"] = lambda data, cut=cut: zeroed(data, cut, len(data))
        found[f"a hole at {cut}"] = lambda data, cut=cut: zeroed(data, cut, cut + SECTOR)
    return found


def zeroed(data: bytes, start: int, end: int) -> bytes:
    """The same bytes with some replaced by zeros."""
    end = min(end, len(data))
    return data[:start] + bytes(max(0, end - start)) + data[end:]


def crash_states(before: Files, ops: list[Op], since: int = 0) -> Iterator[tuple[str, Files]]:
    """Yield the name and the files of every state that a power cut can leave.

    The power may fail during any operation of `ops` after the first `since`.
    """
    for done in range(since, len(ops) + 1):
        waiting = _unflushed(ops[:done])
        for lost in _lost_names(ops[:done]):
            found = damages(max((len(data) for data in waiting.values()), default=0))
            for damage, change in islice(
                found.items(), 4 if lost else None
            ):  # where names are lost as well, few variants of bytes suffice
                name = f"{done} operations done, lost the names of {sorted(lost)}, {damage}"
                yield name, _replay(before, ops[:done], lost, waiting, change)


def _lost_names(ops: list[Op]) -> list[set[int]]:
    """Return which name operations may be missing on the disk after a power cut.

    They are none, all after some moment, or a single one.
    """
    pending, flushed = [], set()
    for number in range(len(ops) - 1, -1, -1):
        op = ops[number]
        if op.kind == "flush":
            flushed.add(op.path)
        elif (
            op.kind not in ("data", "append") and str(Path(op.new or op.path).parent) not in flushed
        ):
            pending.append(number)  # the last one first
    return [set(pending[:count]) for count in range(len(pending) + 1)] + [
        {number} for number in pending[1:]
    ]


def _unflushed(ops: list[Op]) -> dict[str, bytes]:
    """Bytes that were written and not flushed since, by the file name at that time."""
    waiting: dict[str, bytes] = {}
    for op in ops:
        if op.kind in ("data", "append"):
            waiting[op.path] = waiting.get(op.path, b"") + op.data
        elif op.kind == "flush":
            waiting.pop(op.path, None)
    return waiting


def _replay(
    before: Files,
    ops: list[Op],
    lost: set[int],
    waiting: dict[str, bytes],
    change: Callable[[bytes], bytes],
) -> Files:
    """The files after `ops`, but for the names that were `lost`."""
    content: dict[str, bytes] = {}  # by the name that the file was created with
    for op in ops:
        if op.kind in ("create", "data"):
            content[op.path] = (content.get(op.path, b"") if op.kind == "data" else b"") + op.data
    tree = dict(before)
    last = {op.path: number for number, op in enumerate(ops) if op.kind == "append"}
    for number, op in ((number, op) for number, op in enumerate(ops) if number not in lost):
        if op.kind == "create":
            data = content[op.path]
            tree[op.path] = change(data) if op.path in waiting else data
        elif op.kind == "append" and op.path in tree:
            whole, loose = tree[op.path] + op.data, waiting.get(op.path, b"")
            tree[op.path] = (
                whole[: len(whole) - len(loose)] + change(loose)
                if number == last[op.path]
                else whole
            )
        elif op.kind == "folder":
            tree[op.path] = None
        elif op.kind == "unlink":
            tree.pop(op.path, None)
        elif op.kind == "rename":
            moved = {
                name: data
                for name, data in tree.items()
                if name == op.path or name.startswith(op.path + "/")
            }
            for name in moved:
                del tree[name]
            tree |= {op.new + name[len(op.path) :]: data for name, data in moved.items()}
    return tree


def without_flushes(ops: list[Op]) -> list[Op]:
    """The same operations, without flushes."""
    return [replace(op, path="nothing") if op.kind == "flush" else op for op in ops]
