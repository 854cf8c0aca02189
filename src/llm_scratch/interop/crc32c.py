"""CRC-32C, the checksum that TensorFlow stores with every tensor, vectorized in numpy.

The definition (`crc32c_by_bits`) goes bit by bit, too slow for half a gigabyte. The effect of a
word on the checksum depends only on the word and the number of words after it. So data is folded:
its first half, shifted past the second by a table lookup, is xor-ed onto it, until one word is
left. Each fold is a few numpy operations on the whole half.
Tests: tests/interop/test_crc32c.py. Source: RFC 3720, section 12.1 and appendix B.4,
https://www.rfc-editor.org/rfc/rfc3720.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint32]]
POLYNOMIAL = 0x82F63B78  # Castagnoli's, bit-reversed
ONES = 0xFFFFFFFF
BLOCK = 16  # 2**16 words are folded at once: they fit the CPU cache


def crc32c_by_bits(data: bytes) -> int:
    """The definition, bit by bit: the slow reference for `crc32c`."""
    register = ONES
    for byte in data:
        register = _zeros(register ^ byte, 8)
    return register ^ ONES


def crc32c(data: bytes | np.ndarray[Any, Any]) -> int:
    """The checksum of bytes or an array: 0xE3069283 for b"123456789"."""
    raw = np.frombuffer(data, np.uint8)
    rest = len(raw) % (4 << BLOCK)
    total = _fold(np.concatenate([_START, raw[:rest]]))
    for start in range(rest, len(raw), 4 << BLOCK):
        total = _past(total, BLOCK) ^ _fold(raw[start : start + (4 << BLOCK)])
    return int(_past(total, 0)[0]) ^ ONES


def masked(checksum: int) -> int:
    """Mask a checksum as it is stored: rotated by 15 bits, plus a constant.

    Unmasked, the checksum of data that contains its own checksum would be constant.
    """
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & ONES


def _zeros(register: int, bits: int) -> int:
    """The register after shifting in `bits` zero bits."""
    for _ in range(bits):
        register = register >> 1 ^ POLYNOMIAL * (register & 1)
    return register


def _start() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Four bytes that turn a register of zeros into the initial one of ones: steps inverted."""
    register = ONES
    for _ in range(32):
        # the polynomial has the highest bit set, so this shows whether it was xor-ed
        top = register >> 31
        register = ((register ^ POLYNOMIAL * top) << 1 | top) & ONES
    return np.frombuffer(register.to_bytes(4, "little"), np.uint8)


_START = _start()


def _fold(raw: np.ndarray[Any, np.dtype[np.uint8]]) -> Words:
    """Fold `raw` to one word; leading zeros, which have no effect, pad it to a power of two."""
    level = max(len(raw) - 1, 3).bit_length() - 2
    words = np.concatenate([np.zeros((4 << level) - len(raw), np.uint8), raw]).view(np.uint32)
    for half in reversed(range(level)):
        words = _past(words[: 1 << half], half) ^ words[1 << half :]
    return words


def _past(words: Words, level: int) -> Words:
    """Each word after 2**level words of zeros: four table lookups, one per byte."""
    table, column = _table(level), words.view(np.uint8)
    return (
        table[0].take(column[0::4])
        ^ table[1].take(column[1::4])
        ^ table[2].take(column[2::4])
        ^ table[3].take(column[3::4])
    )


@cache
def _table(level: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Lookup table of `_past` for each byte, [4, 256]; twice the zeros are the same step twice."""
    if level:
        bits = _past(_past(_single_bits(), level - 1), level - 1)
    else:
        bits = np.array([_zeros(1 << bit, 32) for bit in range(32)], np.uint32)
    table = np.zeros((4, 1), np.uint32)
    for bit in bits.reshape(4, 8).T:
        table = np.concatenate([table, table ^ bit[:, None]], axis=1)
    return table


def _single_bits() -> Words:
    return np.left_shift(1, np.arange(32)).astype(np.uint32)
