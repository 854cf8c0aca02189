"""Read safetensors files, one or several, tensor by tensor, with a validated header.

A file is the length of its header (8 bytes), the header (JSON: name -> type, shape, offsets), and
the values; it has no executable content. The header is untrusted, so it is checked against the file
before memory is allocated: tensors are contiguous, without overlap or gap, and as long as their
shapes require.
Tests: tests/interop/test_safetensors.py (equal to the safetensors library, on whole files and on
broken ones), tests/reliability/.
Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage import safetensors_writer
from llm_scratch.storage.safe_parse import parse_json, read_json

MAX_HEADER = 512 << 10  # bytes; GPT-2 XL: 60 kB
MAX_PARTS = 36_000  # commas, colons and brackets, twelve per matrix; GPT-2 XL: 7,500
MAX_DIMS = 8
DTYPES = {name: dtype for dtype, name in safetensors_writer.DTYPES.items()}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# reserved names on Windows
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Entry(NamedTuple):
    """Type, shape and position of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path
    start: int
    """in bytes from the beginning of the file"""
    size: int
    """bytes"""


class TensorFiles:
    """Tensors of one or several safetensors files: headers are read at once, values on demand.

    Args:
        files: the result of `files_of`.
    Raises:
        UserError: a file is missing or damaged, or two have a tensor of the same name (code 4).
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.tensors: dict[str, Entry] = {}
        for path in files:
            entries = read_header(path)
            duplicates = sorted(entries.keys() & self.tensors.keys())
            if duplicates:
                other = self.tensors[duplicates[0]].file.name
                raise UserError(
                    f"{path}: {duplicates[0]} is in {other} too; download the files again",
                    CHECKPOINT,
                )
            self.tensors |= entries

    def read(self, name: str) -> Tensor:
        """Read a tensor into new memory."""
        entry = self.tensors[name]
        data = bytearray(entry.size)
        with entry.file.open("rb", buffering=0) as file:
            file.seek(entry.start)
            view, done = memoryview(data), 0
            while done < entry.size:
                if not (n := file.readinto(view[done:])):
                    raise _damaged(
                        entry.file, f"{name} ends after {done:,} of {entry.size:,} bytes"
                    )
                done += n
        if not data:
            return torch.zeros(entry.shape, dtype=entry.dtype)
        return torch.frombuffer(data, dtype=entry.dtype).reshape(entry.shape)


def files_of(folder: str | Path) -> list[Path]:
    """The safetensors files of a folder: those listed in its index, or the only one.

    Raises:
        UserError: a file is missing, or the index has an unsafe file name (code 4).
    """
    folder = Path(folder)
    index = folder / INDEX
    if not index.is_file():
        return [_there(folder / SINGLE)]
    names = read_json(index, CHECKPOINT).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(
            f"{index} has no weight_map; expected tensor names and the files that they are in",
            CHECKPOINT,
        )
    return [
        _there(folder / plain_name(name, index)) for name in sorted(set(map(str, names.values())))
    ]


def plain_name(name: str, where: str | Path) -> str:
    """Check that a file name is safe: it stays in its folder on every system.

    Raises:
        UserError: an unsafe name (code 4).
    """
    if (
        not re.fullmatch(r"\w[\w.-]{0,150}\.safetensors", name, re.ASCII)
        or ".." in name
        or DEVICES.fullmatch(name)
    ):
        raise UserError(
            f"{where} names the file {name[:80]!r};"
            " expected a plain name such as model-00001-of-00002.safetensors",
            CHECKPOINT,
        )
    return name


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is missing; download it again", CHECKPOINT)
    return path


def read_header(path: Path) -> dict[str, Entry]:
    """Read and validate the header of a file: name -> type, shape and position.

    Raises:
        UserError: not a safetensors file, or an inconsistent header (code 4).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise _damaged(
                    path, f"a header of {length:,} bytes does not fit a file of {size:,}"
                )
            if length > MAX_HEADER:
                raise _damaged(
                    path, f"its header has {length:,} bytes; expected at most {MAX_HEADER:,}"
                )
            text = file.read(length)
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror}; check the path and its permissions", CHECKPOINT
        ) from None
    # parsed, it takes 20 times the memory of the text
    if (many := sum(map(text.count, (b",", b":", b"[", b"{")))) > MAX_PARTS:
        raise _damaged(
            path,
            f"its header has {many:,} parts;"
            f" expected at most {MAX_PARTS:,}, enough for 3,000 matrices",
        )
    head = parse_json(text, f"the header of {path}", CHECKPOINT)
    begin = 8 + length
    head.pop("__metadata__", None)
    entries = {name: _entry(path, begin, name, fields) for name, fields in head.items()}
    end = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)):
        if entry.start != end:
            raise _damaged(
                path,
                f"{name} begins at byte {entry.start - begin:,},"
                f" the one before ends at {end - begin:,}",
            )
        end = entry.start + entry.size
    if end != size:
        raise _damaged(
            path, f"its tensors have {end - begin:,} bytes, the file has {size - begin:,}"
        )
    return entries


def _entry(path: Path, begin: int, name: str, fields: Any) -> Entry:
    """Validate an entry of the header."""
    try:
        dtype, shape, (start, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = [*shape, start, end]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"{name[:80]} has no dtype, shape and data_offsets") from None
    if (
        any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers)
        or len(shape) > MAX_DIMS
        or end < start
    ):
        raise _damaged(
            path,
            f"{name[:80]} is {str(shape)[:60]} at {str([start, end])[:60]}, which is impossible",
        )
    if dtype not in DTYPES:
        raise UserError(
            f"{path}: {name[:80]} holds {str(dtype)[:20]}; known are {', '.join(DTYPES)}",
            CHECKPOINT,
        )
    if (want := math.prod(shape) * DTYPES[dtype].itemsize) != end - start:
        raise _damaged(
            path,
            f"{name[:80]} is {dtype} {tuple(shape)}, which takes {want:,} bytes,"
            f" and has {end - start:,}",
        )
    return Entry(DTYPES[dtype], tuple(shape), path, begin + start, end - start)


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path} is damaged: {problem}; download it again", CHECKPOINT)
