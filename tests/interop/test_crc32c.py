"""CRC-32C: known values, and equal to the textbook loop at every length of the folding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_scratch.interop import crc32c as module
from llm_scratch.interop.crc32c import crc32c, crc32c_by_bits, masked

KNOWN = [
    (b"123456789", 0xE3069283),
    (b"", 0),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
]


@pytest.mark.parametrize("check", [crc32c, crc32c_by_bits])
@pytest.mark.parametrize(("data", "value"), KNOWN)
def test_known_values_of_the_standard(check, data, value):
    assert check(data) == value


@given(st.binary(max_size=200))
def test_crc32c_equals_bitwise_definition(data):
    assert crc32c(data) == crc32c_by_bits(data)


@pytest.mark.parametrize("near", [1, 2, 3])
@pytest.mark.parametrize("off", range(-5, 6))
def test_crc32c_equals_bitwise_definition_around_block_ends(monkeypatch, near, off):
    monkeypatch.setattr(module, "BLOCK", 4)
    data = np.random.default_rng(near).bytes(near * 64 + off)
    assert crc32c(data) == crc32c_by_bits(data)


def test_crc32c_equals_bitwise_definition_beyond_one_block():
    data = np.random.default_rng(1).bytes((4 << module.BLOCK) + 7)
    assert crc32c(data) == crc32c_by_bits(data)
    assert crc32c(np.frombuffer(data, np.uint8)) == crc32c(data)


def test_crc32c_mask_equals_that_of_leveldb():
    assert masked(0) == 0xA282EAD8
    assert masked(0xE3069283) == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32
