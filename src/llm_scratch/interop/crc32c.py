"""CRC-32C, the checksum that TensorFlow keeps of every tensor: 32 bits that change when the data does.

The textbook (`crc32c_by_bits`) goes bit by bit, too slow for half a gigabyte. But what a word does to the checksum depends only on the
word and on how many words follow it. So data is folded: its first half, moved past the second by a table, is xor-ed onto it, again and
again until one word is left. Each fold is a few numpy operations on the whole half.
Tests: tests/interop/test_crc32c.py. Source: RFC 3720, section 12.1 and appendix B.4, https://www.rfc-editor.org/rfc/rfc3720.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint32]]
POLYNOMIAL = 0x82F63B78  # Castagnoli's, its highest power in the lowest bit
ONES = 0xFFFFFFFF
BLOCK = 16  # 2**16 words are folded at once: small enough for the processor's cache


def crc32c_by_bits(data: bytes) -> int:
    """The rule as it is written: `crc32c` gives the same, sooner."""
    register = ONES
    for byte in data:
        register = _zeros(register ^ byte, 8)
    return register ^ ONES


def crc32c(data: bytes | np.ndarray[Any, Any]) -> int:
    """The checksum of bytes, or of an array's: 0xE3069283 for b"123456789"."""
    raw = np.frombuffer(data, np.uint8)
    rest = len(raw) % (4 << BLOCK)
    total = _fold(np.concatenate([_START, raw[:rest]]))
    for start in range(rest, len(raw), 4 << BLOCK):
        total = _past(total, BLOCK) ^ _fold(raw[start : start + (4 << BLOCK)])
    return int(_past(total, 0)[0]) ^ ONES


def masked(checksum: int) -> int:
    """A checksum as it is stored: turned by 15 bits plus a constant, because the checksum of data that holds its own is always the same."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & ONES


def _zeros(register: int, bits: int) -> int:
    """The register after that many zero bits have passed through it."""
    for _ in range(bits):
        register = register >> 1 ^ POLYNOMIAL * (register & 1)
    return register


def _start() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Four bytes that lead from a register of zeros to one of ones, as the rule begins: its steps walked backwards."""
    register = ONES
    for _ in range(32):
        top = register >> 31  # the polynomial has the highest bit, so it shows whether it was added
        register = ((register ^ POLYNOMIAL * top) << 1 | top) & ONES
    return np.frombuffer(register.to_bytes(4, "little"), np.uint8)


_START = _start()


def _fold(raw: np.ndarray[Any, np.dtype[np.uint8]]) -> Words:
    """One word that stands for all of `raw`; zeros put before it, which change nothing, make its length a power of two."""
    level = max(len(raw) - 1, 3).bit_length() - 2
    words = np.concatenate([np.zeros((4 << level) - len(raw), np.uint8), raw]).view(np.uint32)
    for half in reversed(range(level)):
        words = _past(words[: 1 << half], half) ^ words[1 << half :]
    return words


def _past(words: Words, level: int) -> Words:
    """What each word becomes when 2**level words of zeros follow it: four look-ups, one for each of its bytes."""
    table, column = _table(level), words.view(np.uint8)
    return table[0].take(column[0::4]) ^ table[1].take(column[1::4]) ^ table[2].take(column[2::4]) ^ table[3].take(column[3::4])


@cache
def _table(level: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """[4, 256]: what `_past` gives for each value of each byte. Twice as many zeros are the same step twice."""
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
