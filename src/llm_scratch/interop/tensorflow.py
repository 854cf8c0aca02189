"""Read TensorFlow checkpoints in numpy: `TFCheckpointReader("124M/model.ckpt").read("model/wte")`.

A checkpoint is a small table and large data files:

    model.ckpt.index                a sorted table,
                                    name -> (type, shape, data file, offset, size, checksum)
    model.ckpt.data-00000-of-00001  the values of all tensors, contiguous

The table is LevelDB's: blocks of rows, an index block with the positions of these blocks, and a
footer of 48 bytes with the position of the index block. Keys are prefix-compressed. A row's value
is a Protocol Buffers message: numbered fields, variable-length integers. The file is untrusted:
every length is checked against the file, and every block and tensor against its checksum.
Tests: tests/interop/test_tensorflow.py (equal, bit for bit, to what TensorFlow wrote; broken in
every byte, each gives one clear error).
Source: LevelDB, https://github.com/google/leveldb/blob/main/doc/table_format.md; TensorFlow,
core/protobuf/tensor_bundle.proto; Protocol Buffers,
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.interop.crc32c import crc32c, masked

MAGIC = 0xDB4775248B80FB57  # the last 8 bytes of a table
FOOTER = 48  # bytes at the end of the table
TRAILER = 5  # bytes after each block: 1 compression, 4 checksum
# GPT-2 XL: 20 kB, 25 letters, 581 rows, 3 dimensions
MAX_INDEX, MAX_KEY, MAX_ROWS, MAX_DIMS = 4 << 20, 1024, 10_000, 8
MAX_DIM = (1 << 31) - 1
NUMBERS = {
    1: "f4",
    2: "f8",
    3: "i4",
    4: "u1",
    5: "i2",
    6: "i1",
    9: "i8",
    10: "?",
    17: "u2",
    19: "f2",
    22: "u4",
    23: "u8",
}
"""TensorFlow's type code -> numpy's name; strings, complex numbers etc. are not supported."""


class Variable(NamedTuple):
    """Type, shape and position of a tensor."""

    dtype: np.dtype[Any] | None
    """None: not a plain array of numbers"""
    shape: tuple[int, ...]
    shard: int
    """the number of its data file"""
    offset: int
    """in bytes from the beginning of that file"""
    size: int
    """bytes"""
    checksum: int
    """masked CRC-32C"""


class TFCheckpointReader:
    """A TensorFlow checkpoint: the index is read at once, values on demand.

    Args:
        prefix: the path without `.index`, as in TensorFlow.
    Raises:
        UserError: missing, or a damaged index (code 4).
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix)
        path = self._file("index")
        try:
            size = path.stat().st_size
            if size > MAX_INDEX:
                raise UserError(
                    f"{path} has {size:,} bytes, expected at most {MAX_INDEX:,}:"
                    " not the index of a checkpoint",
                    CHECKPOINT,
                )
            self.n_shards, self.variables = _index(path.read_bytes())
        except OSError as e:
            raise UserError(
                f"cannot read {path}: {e.strerror}; expected TensorFlow's index of a checkpoint",
                CHECKPOINT,
            ) from e
        except (ValueError, struct.error) as e:
            raise UserError(
                f"{path} is damaged: {describe_error(e)}; download it again", CHECKPOINT
            ) from None

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Read a tensor.

        Raises:
            UserError: unknown tensor, unsupported type, or missing or damaged data (code 4).
        """
        variable = self.variables.get(name)
        if variable is None:
            raise UserError(
                f"{self._file('index')} has no tensor {name};"
                f" expected it among its {len(self.variables)}",
                CHECKPOINT,
            )
        if variable.dtype is None:
            raise UserError(
                f"{self._file('index')}: {name} is not a plain array of numbers; save it as one",
                CHECKPOINT,
            )
        path = self._file(f"data-{variable.shard:05d}-of-{self.n_shards:05d}")
        try:
            file_size = path.stat().st_size
            if variable.offset + variable.size > file_size:
                raise UserError(
                    f"{path} ends before {name}: it has {file_size:,} bytes,"
                    f" expected {variable.offset + variable.size:,}; download it again",
                    CHECKPOINT,
                )
            raw = np.fromfile(path, np.uint8, variable.size, offset=variable.offset)
        except OSError as e:
            raise UserError(
                f"cannot read {name} from {path}: {e.strerror};"
                " expected the data of the checkpoint",
                CHECKPOINT,
            ) from e
        if len(raw) != variable.size or masked(crc32c(raw)) != variable.checksum:
            raise UserError(
                f"{path} is damaged: the checksum of {name} differs; download it again", CHECKPOINT
            )
        return raw.view(variable.dtype).reshape(variable.shape)

    def _file(self, suffix: str) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.{suffix}")


def _index(table: bytes) -> tuple[int, dict[str, Variable]]:
    """The number of data files and every tensor by name, from the bytes of an index."""
    rows = _rows(table)
    key, value = next(rows, (b"?", b""))
    if key:
        raise ValueError("its first row is not the header, which has the empty name")
    header = _message(value)
    n_shards = _number(header, 1)
    if not 1 <= n_shards <= 99_999:
        raise ValueError(f"it has {n_shards} data files")
    if _number(header, 2):
        raise ValueError("its numbers are big-endian, which no checkpoint of GPT-2 is")
    variables = {key.decode(): _variable(key.decode(), value, n_shards) for key, value in rows}
    end, last = (0, 0), ""
    by_position = sorted(
        variables.items(), key=lambda item: (item[1].shard, item[1].offset, item[1].size)
    )
    for name, v in by_position:
        if v.size and (v.shard, v.offset) < end:
            raise ValueError(f"{name} and {last} share bytes")
        end, last = max(end, (v.shard, v.offset + v.size)), name
    return n_shards, variables


def _variable(name: str, value: bytes, n_shards: int) -> Variable:
    """Parse the value of a row, a BundleEntryProto.

    Its fields: {1 dtype, 2 shape {2 dim {1 size}}, 3 shard, 4 offset, 5 size, 6 crc32c, 7 slices}.
    """
    entry = _message(value)
    dims = [dim for shape in _parts(entry, 2) for dim in _parts(_message(shape), 2)]
    shape = tuple(_number(_message(dim), 1) for dim in dims)
    if len(shape) > MAX_DIMS or any(dim > MAX_DIM for dim in shape):
        raise ValueError(f"{name} has the shape {str(shape)[:80]}")
    code = NUMBERS.get(_number(entry, 1))
    dtype = np.dtype(f"<{code}") if code and 7 not in entry else None
    variable = Variable(dtype, shape, *(_number(entry, field) for field in (3, 4, 5, 6)))
    if variable.shard >= n_shards:
        raise ValueError(f"{name} is in data file {variable.shard} of {n_shards}")
    if dtype is not None and variable.size != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{name} has {variable.size:,} bytes,"
            f" but {shape} of {dtype} is {math.prod(shape) * dtype.itemsize:,}"
        )
    return variable


# LevelDB's table


def _rows(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) of a table.

    Keys must ascend, so no key is repeated and blocks form no cycle.
    """
    if len(table) < FOOTER or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise ValueError("it does not end as a table does")
    footer = memoryview(table)[-FOOTER:]
    _, _, at = _handle(footer, 0)  # the meta index, which checkpoints do not use
    offset, size, _ = _handle(footer, at)
    last, n = None, 0
    for _, value in _block(table, offset, size):
        offset, size, _ = _handle(memoryview(value), 0)
        for key, variable in _block(table, offset, size):
            if last is not None and key <= last:
                raise ValueError(f"the name {key[:80]!r} is repeated or out of order")
            if (n := n + 1) > MAX_ROWS:
                raise ValueError(f"it has more than {MAX_ROWS:,} rows")
            yield key, variable
            last = key


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
    """Read a block handle: offset and size of the block, and the position after the handle."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return offset, size, at


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a block. After them come the restart points (4 bytes each) and their number."""
    data = memoryview(table)[offset : offset + size + TRAILER]
    if len(data) != size + TRAILER or size < 4:
        raise ValueError("a block is outside of it")
    compression, checksum = struct.unpack("<BI", data[size:])
    if masked(crc32c(bytes(data[: size + 1]))) != checksum:
        raise ValueError("the checksum of a block differs")
    if compression:
        raise ValueError(
            f"a block is compressed (kind {compression}), which TensorFlow's checkpoints never are"
        )
    end = size - 4 - 4 * struct.unpack("<I", data[size - 4 : size])[0]
    if end < 0:
        raise ValueError("a block is shorter than its restart points")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(data, at)
        n_key, at = _varint(data, at)
        n_value, at = _varint(data, at)
        if shared > len(key) or shared + n_key > MAX_KEY or at + n_key + n_value > end:
            raise ValueError("a row does not fit its block")
        key = key[:shared] + bytes(data[at : at + n_key])
        at += n_key + n_value
        yield key, bytes(data[at - n_value : at])


# Protocol Buffers


def _message(data: bytes) -> dict[int, list[int | bytes]]:
    """Parse a message: field number -> values.

    A tag has the field number and, in its lowest 3 bits, the wire type.
    """
    fields: dict[int, list[int | bytes]] = {}
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _varint(view, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(view, at)
        else:
            if tag & 7 == 2:
                size, at = _varint(view, at)
            else:
                size, at = {1: 8, 5: 4}.get(tag & 7, len(view) + 1), at
            if at + size > len(view):
                raise ValueError("a message ends too early")
            value = bytes(view[at : at + size])
            value, at = value if tag & 7 == 2 else int.from_bytes(value, "little"), at + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a varint, 7 bits per byte, lowest first, and the position after it.

    A set highest bit means that more bytes follow.
    """
    value = 0
    for n, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * n
        if byte < 128:
            return value, at + n + 1
    raise ValueError("a number does not end")


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    """The value of a numeric field; 0 if it is absent.

    A negative value appears as a very large one.
    """
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {field} of a message is not a number")
    return value


def _parts(fields: dict[int, list[int | bytes]], field: int) -> list[bytes]:
    """The messages in a field."""
    values = fields.get(field, [])
    parts = [value for value in values if isinstance(value, bytes)]
    if len(parts) != len(values):
        raise ValueError(f"field {field} of a message is not a message")
    return parts
