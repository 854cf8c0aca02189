"""Make the bytes of a GGUF file by hand, whole or broken, independently of any library."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
SIZES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34)}
"""type of a tensor -> weights and bytes of a block"""


class T(NamedTuple):
    """An entry of the table of tensors, and its values; None: the correct one."""

    name: str
    shape: Sequence[int] = (2, 3)
    type: int = 0
    offset: int | None = None
    data: bytes | None = None


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(item: Any) -> bytes:
    """A typed metadata value; bytes are used unchanged."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, bool):
        return struct.pack("<I?", BOOL, item)
    if isinstance(item, int):
        return struct.pack("<II", U32, item)
    if isinstance(item, float):
        return struct.pack("<If", F32, item)
    if isinstance(item, str):
        return struct.pack("<I", STRING) + text(item)
    kind = {str: STRING, float: F32}.get(type(item[0]) if item else int, U32)
    if kind == STRING:
        body = b"".join(map(text, item))
    else:
        body = struct.pack(f"<{len(item)}{'f' if kind == F32 else 'I'}", *item)
    return struct.pack("<IIQ", ARRAY, kind, len(item)) + body


def gguf_bytes(
    metadata: Mapping[str, Any] | bytes = {},
    tensors: Sequence[T] = (),
    *,
    alignment: int = 32,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_values: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """A file; every count can be replaced by a wrong one."""
    if isinstance(metadata, bytes):
        entries, n = metadata, n_values or 1
    else:
        entries, n = (
            b"".join(text(key) + value(item) for key, item in metadata.items()),
            len(metadata),
        )
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        n if n_values is None else n_values,
    )
    table, body = b"", b""
    for each in tensors:
        block, size = SIZES.get(each.type, (1, 4))
        body += bytes(-len(body) % alignment)
        offset = len(body) if each.offset is None else each.offset
        table += text(each.name) + struct.pack(
            f"<I{len(each.shape)}QIQ", len(each.shape), *reversed(each.shape), each.type, offset
        )
        n_bytes = int(np.prod(each.shape, dtype=np.float64)) // block * size
        body += each.data if each.data is not None else bytes(min(n_bytes, 1 << 16))
    before = head + entries + table
    return before + bytes(-len(before) % alignment if tensors else 0) + body + tail
