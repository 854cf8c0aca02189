"""Each number format gives the float32 values that the `gguf` package gives."""

import struct

import numpy as np
import pytest
import torch

from llm_scratch.interop.gguf_types import TYPES


@pytest.mark.parametrize("number", TYPES)
def test_gguf_formats_equal_the_gguf_package_bit_for_bit(number):
    gguf = pytest.importorskip("gguf", reason="the reference; install the gguf extra")
    type_ = TYPES[number]
    blocks = np.random.default_rng(number).integers(0, 256, (500, type_.size), np.uint8)
    kind = gguf.GGMLQuantizationType(number)
    assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (type_.name, (type_.block, type_.size))
    with np.errstate(all="ignore"):
        want = gguf.dequantize(blocks, kind)
    got = type_.to_float(torch.from_numpy(blocks)).numpy()
    assert got.dtype == want.dtype == np.float32
    assert np.array_equal(got, want.reshape(got.shape), equal_nan=True)
    assert got.shape == (500, type_.block)


def test_q8_0_and_q4_0_equal_a_manual_calculation():
    half = np.array([0.5], np.float16).tobytes()
    q8 = half + struct.pack("32b", *range(-16, 16))
    q4 = half + bytes((15 - i) << 4 | i for i in range(16))  # low halves count up, high ones down
    for number, block, want in (
        (8, q8, [0.5 * i for i in range(-16, 16)]),
        (2, q4, [0.5 * (i - 8) for i in [*range(16), *reversed(range(16))]]),
    ):
        blocks = torch.frombuffer(bytearray(block), dtype=torch.uint8)[None]
        assert TYPES[number].to_float(blocks).tolist() == [want]
