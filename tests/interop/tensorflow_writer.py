"""A second hand that writes TensorFlow's format, for what TensorFlow would not write: many blocks, lies, rows out of order."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from llm_scratch.interop.crc32c import crc32c_by_bits, masked
from llm_scratch.interop.tensorflow import MAGIC, NUMBERS

CODES = {np.dtype(name): code for code, name in NUMBERS.items()}


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def header(n_shards: int = 1, endianness: int = 0) -> bytes:
    return number(1, n_shards) + number(2, endianness)


def entry(dtype: int, shape: Iterable[int], shard: int, offset: int, size: int, checksum: int) -> bytes:
    dims = b"".join(part(2, number(1, n)) for n in shape)
    return number(1, dtype) + part(2, dims) + number(3, shard) + number(4, offset) + number(5, size) + b"\x35" + struct.pack("<I", checksum)


def block(rows: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """Rows, one restart and the trailer."""
    body, last = b"", b""
    for key, value in rows:
        shared = next((n for n, (a, b) in enumerate(zip(last, key)) if a != b), min(len(last), len(key)))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return sealed(body + struct.pack("<II", 0, 1), kind)


def sealed(body: bytes, kind: int = 0) -> bytes:
    body += bytes([kind])
    return body + struct.pack("<I", masked(crc32c_by_bits(body)))


def table(blocks: list[bytes], keys: list[bytes]) -> bytes:
    """The blocks, an empty block, the block of blocks, the footer."""
    out, handles = b"", []
    for data in [*blocks, block([])]:
        handles.append(varint(len(out)) + varint(len(data) - 5))
        out += data
    index = block(list(zip(keys, handles)))
    footer = handles[-1] + varint(len(out)) + varint(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def one_table(rows: list[tuple[bytes, bytes]], per_block: int = 1000) -> bytes:
    groups = [rows[i : i + per_block] for i in range(0, len(rows), per_block)]
    return table([block(group) for group in groups], [group[-1][0] for group in groups])


def write(prefix: Path, tensors: dict[str, np.ndarray], per_block: int = 1000) -> None:
    """A whole checkpoint with one data file."""
    data, rows = b"", [(b"", header())]
    for name, value in sorted(tensors.items()):
        raw = value.tobytes()
        rows.append((name.encode(), entry(CODES[value.dtype], value.shape, 0, len(data), len(raw), masked(crc32c_by_bits(raw)))))
        data += raw
    prefix.with_name(f"{prefix.name}.index").write_bytes(one_table(rows, per_block))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
