"""Write TensorFlow checkpoints, the inverse of interop/tensorflow.py, which explains the format.

`write` writes a checkpoint.
The other functions are public because tests use them to build invalid files.
Tests: tests/interop/test_openai_export.py (byte for byte what TensorFlow wrote).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.interop.crc32c import crc32c, masked
from llm_scratch.interop.tensorflow import MAGIC, NUMBERS
from llm_scratch.storage.files import atomic_write

Row = tuple[bytes, bytes]
CODES = {np.dtype(name): code for code, name in NUMBERS.items()}
RESTART = 16  # rows between keys that are written in full, where a search can start
PER_BLOCK = 1000  # rows


def write(
    prefix: str | Path, tensors: Mapping[str, np.ndarray[Any, Any]], per_block: int = PER_BLOCK
) -> None:
    """Write a checkpoint with one data file: `prefix`.index and `prefix`.data-00000-of-00001.

    Raises:
        KeyError: a tensor's type is not one of tensorflow.NUMBERS.
        UserError: the files cannot be written (code 6).
    """
    prefix, pieces, rows, end = Path(prefix), [], [(b"", header())], 0
    for name, tensor in sorted(tensors.items()):
        raw = np.asarray(tensor, tensor.dtype.newbyteorder("<")).tobytes()
        rows.append(
            (
                name.encode(),
                entry(CODES[tensor.dtype], tensor.shape, 0, end, len(raw), masked(crc32c(raw))),
            )
        )
        pieces.append(raw)
        end += len(raw)
    atomic_write(prefix.with_name(f"{prefix.name}.data-00000-of-00001"), b"".join(pieces))
    atomic_write(prefix.with_name(f"{prefix.name}.index"), one_table(rows, per_block))


# LevelDB's table


def one_table(rows: Sequence[Row], per_block: int = PER_BLOCK) -> bytes:
    """Build the table of sorted rows."""
    groups = [rows[i : i + per_block] for i in range(0, len(rows), per_block)]
    ends = [group[-1][0] for group in groups]
    return table([block(group) for group in groups], [*ends[:-1], _after(ends[-1])] if ends else [])


def table(blocks: Sequence[bytes], keys: Sequence[bytes]) -> bytes:
    """Serialize a table: the blocks, an empty meta index, the index block, the footer.

    The index block has a key for each block, which is at least the block's last key.
    """
    out, handles = b"", []
    for data in [*blocks, block([])]:
        handles.append(varint(len(out)) + varint(len(data) - 5))
        out += data
    index = block(list(zip(keys, handles)), restart=1)
    footer = handles[-1] + varint(len(out)) + varint(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(rows: Sequence[Row], kind: int = 0, restart: int = RESTART) -> bytes:
    """Serialize a block: rows with prefix-compressed keys, restart points, trailer."""
    body, last, restarts = b"", b"", [0]
    for n, (key, value) in enumerate(rows):
        if n and n % restart == 0:
            restarts.append(len(body))
            last = b""
        shared = next(
            (i for i, (a, b) in enumerate(zip(last, key)) if a != b), min(len(last), len(key))
        )
        body += (
            varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        )
        last = key
    return sealed(body + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)), kind)


def sealed(body: bytes, kind: int = 0) -> bytes:
    """A block with its kind of compression (0: none) and its checksum."""
    body += bytes([kind])
    return body + struct.pack("<I", masked(crc32c(body)))


def _after(key: bytes) -> bytes:
    """A short key of at least `key`: cut after the first byte that can be raised by 1."""
    n = next((i for i, byte in enumerate(key) if byte != 255), None)
    return key if n is None else key[:n] + bytes([key[n] + 1])


# Protocol Buffers


def header(n_shards: int = 1, endianness: int = 0) -> bytes:
    """BundleHeaderProto: {1 how many data files, 2 byte order, 3 version {1 producer}}."""
    return number(1, n_shards) + number(2, endianness) + part(3, number(1, 1))


def entry(
    dtype: int, shape: Iterable[int], shard: int, offset: int, size: int, checksum: int
) -> bytes:
    """BundleEntryProto: {1 dtype, 2 shape {2 dim {1 size}}, 3 shard, 4 offset, ... 6 crc32c}."""
    dims = b"".join(part(2, number(1, n)) for n in shape)
    return (
        number(1, dtype)
        + part(2, dims)
        + number(3, shard)
        + number(4, offset)
        + number(5, size)
        + b"\x35"
        + struct.pack("<I", checksum)
    )


def number(field: int, value: int) -> bytes:
    """A numeric field; 0 is encoded by leaving it out."""
    return varint(field << 3) + varint(value) if value else b""


def part(field: int, value: bytes) -> bytes:
    """A field that holds bytes, or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def varint(n: int) -> bytes:
    """A varint: 7 bits per byte, lowest first; a set highest bit means that more bytes follow."""
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
