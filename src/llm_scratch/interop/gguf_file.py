"""Read GGUF files, the format of llama.cpp and ollama: settings and tensors in one file.

A file is a header (magic, version, two counts), the metadata (name -> typed value), a table of the
tensors (name, shape, type, offset), and their values, each at a multiple of the alignment. All of
it is untrusted: every count, length and offset is compared with the size of the file before memory
is allocated for it. The file is mapped, so only what is read takes memory.
Tests: tests/interop/test_gguf_file.py, tests/reliability/test_f03_gguf.py (mutated files).
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_types import TYPES, GGUFType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_NAME = 64  # bytes of a tensor's name, as in ggml
MAX_KEY = 1 << 10  # bytes
MAX_VALUES = 10_000  # metadata entries; the largest models have about 60
MAX_TENSORS = 100_000
MAX_ARRAY = 1_000_000  # elements, as many as a vocabulary has tokens
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 20
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Number of a metadata type -> its letter in `struct`."""
STRING, ARRAY = 8, 9
MIN_STRING = 8  # bytes: its length


class GGUFTensor(NamedTuple):
    """Type, shape and position of a tensor."""

    type: GGUFType
    shape: tuple[int, ...]
    """as in PyTorch: rows first"""
    start: int
    """in bytes from the beginning of the file"""
    size: int
    """bytes"""

    @property
    def dtype(self) -> torch.dtype:
        """The type in which it is read."""
        return torch.float32


class GGUFFile:
    """A GGUF file: its metadata, and its tensors on demand.

    Args:
        path: the file.
    Attributes:
        metadata: name -> number, bool, text or list of these.
        tensors: name -> type, shape and position.
    Raises:
        UserError: not a GGUF file, damaged, or of an unsupported type; names the file and the
            entry or tensor (code 4).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as e:
            raise UserError(
                f"cannot read {path}: {e.strerror}; check the path and its permissions", CHECKPOINT
            ) from None
        except ValueError:  # an empty file cannot be mapped
            raise self._damaged("it is empty") from None
        self._at = 0
        n_tensors, n_values = self._header()
        self.metadata: Mapping[str, Any] = dict(self._metadata(n_values))
        self.tensors: Mapping[str, GGUFTensor] = self._tensor_table(n_tensors)

    def read(self, name: str) -> Tensor:
        """Read a tensor as float32 into new memory."""
        tensor = self.tensors[name]
        values = np.frombuffer(self._data, np.uint8, tensor.size, tensor.start)
        blocks = torch.from_numpy(values.copy()).reshape(-1, tensor.type.size)
        return tensor.type.to_float(blocks).reshape(tensor.shape)

    def _header(self) -> tuple[int, int]:
        """Check magic and version; returns the numbers of tensors and metadata entries."""
        if (magic := bytes(self._take(4, "the header"))) != MAGIC:
            raise UserError(
                f"{self.path} is not a GGUF file: it begins with {magic!r}; expected {MAGIC!r}",
                CHECKPOINT,
            )
        version = self._number("I", "the header")
        if version not in VERSIONS:
            raise UserError(
                f"{self.path}: GGUF version {version} is not supported;"
                " 2 and 3, little-endian, are; convert the model again with a current llama.cpp",
                CHECKPOINT,
            )
        n_tensors, n_values = self._number("Q", "the header"), self._number("Q", "the header")
        for count, most, what in (
            (n_tensors, MAX_TENSORS, "tensors"),
            (n_values, MAX_VALUES, "metadata entries"),
        ):
            if count > most:
                raise self._damaged(f"it announces {count:,} {what}; at most {most:,} are read")
        return n_tensors, n_values

    def _metadata(self, n_values: int) -> dict[str, Any]:
        """Read the metadata entries."""
        values: dict[str, Any] = {}
        for i in range(n_values):
            key = self._name(MAX_KEY, f"the name of metadata entry {i + 1}")
            if key in values:
                raise self._damaged(f"{key} occurs twice")
            values[key] = self._value(self._number("I", key), key)
        return values

    def _value(self, kind: int, key: str) -> Any:
        """Read a metadata value."""
        if kind in SCALARS:
            return self._number(SCALARS[kind], key)
        if kind == STRING:
            return self._text(self._left, key)
        if kind != ARRAY:
            raise self._damaged(f"{key} is of the unknown type {kind}")
        kind, length = self._number("I", key), self._number("Q", key)
        if length > MAX_ARRAY:
            raise self._damaged(f"{key} has {length:,} elements; at most {MAX_ARRAY:,} are read")
        if kind in SCALARS:
            letter = f"<{SCALARS[kind]}"
            return np.frombuffer(self._take(length * struct.calcsize(letter), key), letter).tolist()
        if kind != STRING:
            raise self._damaged(f"{key} is an array of the type {kind}")
        if length * MIN_STRING > self._left:
            raise self._damaged(f"{key} ends after the end of the file")
        return [self._text(self._left, key) for _ in range(length)]

    def _tensor_table(self, n_tensors: int) -> dict[str, GGUFTensor]:
        """Read the table of tensors, and check that they fill the rest of the file in order."""
        alignment = self.metadata.get("general.alignment", 32)
        if (
            type(alignment) is not int
            or not 8 <= alignment <= MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            raise self._damaged(
                f"general.alignment is {alignment!r:.40}; expected a power of 2 from 8 on"
            )
        rows: dict[str, tuple[GGUFType, tuple[int, ...], int, int]] = {}
        for i in range(n_tensors):
            name = self._name(MAX_NAME, f"the name of tensor {i + 1}")
            if name in rows:
                raise self._damaged(f"the tensor {name} occurs twice")
            rows[name] = self._tensor(name)
        begin = self._at + -self._at % alignment if rows else self._at
        tensors, end = {}, 0
        for name, (type_, shape, offset, size) in sorted(rows.items(), key=lambda row: row[1][2]):
            if offset != end + -end % alignment:
                raise self._damaged(
                    f"{name} begins at byte {offset:,} of the tensors;"
                    f" the one before ends at {end:,}, aligned to {alignment}"
                )
            end = offset + size
            if begin + end > len(self._data):
                raise self._damaged(
                    f"{name} has {size:,} bytes, of which the last"
                    f" {begin + end - len(self._data):,} are beyond the end of the file"
                )
            tensors[name] = GGUFTensor(type_, shape, begin + offset, size)
        if (rest := len(self._data) - begin - end) >= alignment:
            raise self._damaged(f"{rest:,} bytes follow the last tensor")
        return tensors

    def _tensor(self, name: str) -> tuple[GGUFType, tuple[int, ...], int, int]:
        """Read a row of the table: type, shape, offset, bytes."""
        n_dims = self._number("I", name)
        if not 1 <= n_dims <= MAX_DIMS:
            raise self._damaged(f"{name} has {n_dims:,} dimensions; expected 1 to {MAX_DIMS}")
        shape = tuple(self._number("Q", name) for _ in range(n_dims))[::-1]
        kind, offset = self._number("I", name), self._number("Q", name)
        if kind not in TYPES:
            known = ", ".join(each.name for each in TYPES.values())
            raise UserError(
                f"{self.path}: {name} is of the type number {kind}, which is not supported;"
                f" supported are {known}",
                CHECKPOINT,
            )
        n_values, type_ = math.prod(shape), TYPES[kind]
        if not 1 <= n_values <= len(self._data) * type_.block or shape[-1] % type_.block:
            raise self._damaged(f"{name} is {type_.name} {shape}, which is impossible here")
        return type_, shape, offset, n_values // type_.block * type_.size

    @property
    def _left(self) -> int:
        """Bytes from here to the end of the file."""
        return len(self._data) - self._at

    def _take(self, n: int, what: str) -> memoryview:
        """The next `n` bytes, which belong to `what`."""
        if n > self._left:
            raise self._damaged(f"{what} ends after the end of the file")
        self._at += n
        return self._data[self._at - n : self._at]

    def _number(self, letter: str, what: str) -> Any:
        layout = f"<{letter}"
        return struct.unpack(layout, self._take(struct.calcsize(layout), what))[0]

    def _text(self, most: int, what: str) -> str:
        length = self._number("Q", what)
        if length > most:
            raise self._damaged(f"{what} has {length:,} bytes; at most {most:,} fit")
        try:
            return str(self._take(length, what), "utf-8")
        except UnicodeDecodeError:
            raise self._damaged(f"{what} is not UTF-8") from None

    def _name(self, most: int, what: str) -> str:
        """A text that is safe to print."""
        name = self._text(most, what)
        if not name.isprintable():
            raise self._damaged(f"{what} is not a plain name")
        return name

    def _damaged(self, problem: str) -> UserError:
        return UserError(f"{self.path} is damaged: {problem}; download it again", CHECKPOINT)
