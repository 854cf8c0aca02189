"""The number formats of GGUF tensors, and how each becomes float32.

A quantized tensor is a row of blocks: some weights as small whole numbers, and the scale that they
share. The K formats have blocks of 256 weights with a second, quantized level of scales.
Tests: tests/interop/test_gguf_types.py (equal to the `gguf` package, bit for bit).
Source: https://github.com/ggml-org/ggml (src/ggml-quants.c, `dequantize_row_*`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class GGUFType(NamedTuple):
    """A number format."""

    name: str
    block: int
    """weights in a block"""
    size: int
    """bytes of a block"""
    to_float: Callable[[Tensor], Tensor]
    """blocks [N, size] as uint8 -> weights [N, block] as float32"""


def _plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda blocks: blocks.view(dtype).to(torch.float32)


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at a byte of each block, as float32 [N, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).to(torch.float32)


def _signed(blocks: Tensor) -> Tensor:
    return blocks.contiguous().view(torch.int8).to(torch.float32)


def _nibbles(quants: Tensor) -> Tensor:
    """Bytes [..., n] -> their low halves, then their high halves [..., 2n]."""
    return torch.cat([quants & 15, quants >> 4], -1)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _signed(blocks[:, 2:])


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).to(torch.float32) - 8)


def _k_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The 8 scales and 8 minima of 6 bits in the 12 bytes of a Q4_K or Q5_K block: [N, 8] each.

    The low four of each are the low six bits of a byte. The others have four bits in the last four
    bytes, and two in the top of the bytes before.
    """
    low, high, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([low & 63, (rest & 15) | ((low >> 6) << 4)], -1)
    minima = torch.cat([high & 63, (rest >> 4) | ((high >> 6) << 4)], -1)
    return scales.to(torch.float32), minima.to(torch.float32)


def _scaled_and_shifted(blocks: Tensor, quants: Tensor) -> Tensor:
    """Quants [N, 8, 32] of a Q4_K or Q5_K block -> weights [N, 256]."""
    scales, minima = _k_scales(blocks[:, 4:16])
    scales, minima = _half(blocks, 0) * scales, _half(blocks, 2) * minima  # [N, 8]
    return (scales[..., None] * quants.to(torch.float32) - minima[..., None]).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    quants = _nibbles(blocks[:, 16:].unflatten(1, (4, 32)))  # [N, 4, 64]
    return _scaled_and_shifted(blocks, quants.reshape(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, 48:].unflatten(1, (4, 32))).reshape(-1, 8, 32)
    shifts = torch.arange(8, dtype=torch.uint8)[:, None]
    fifth = (blocks[:, None, 16:48] >> shifts) & 1  # [N, 8, 32]
    return _scaled_and_shifted(blocks, low | (fifth << 4))


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, :128].unflatten(1, (2, 64)))  # [N, 2, 128]
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    high = (blocks[:, 128:192].unflatten(1, (2, 1, 32)) >> shifts) & 3  # [N, 2, 4, 32]
    quants = (low | (high.flatten(2) << 4)).to(torch.float32) - 32  # [N, 2, 128]
    scales = _half(blocks, 208) * _signed(blocks[:, 192:208])  # [N, 16]
    return (scales[..., None] * quants.reshape(-1, 16, 16)).flatten(1)


TYPES: dict[int, GGUFType] = {
    0: GGUFType("F32", 1, 4, _plain(torch.float32)),
    1: GGUFType("F16", 1, 2, _plain(torch.float16)),
    2: GGUFType("Q4_0", 32, 18, _q4_0),
    8: GGUFType("Q8_0", 32, 34, _q8_0),
    12: GGUFType("Q4_K", 256, 144, _q4_k),
    13: GGUFType("Q5_K", 256, 176, _q5_k),
    14: GGUFType("Q6_K", 256, 210, _q6_k),
    30: GGUFType("BF16", 1, 2, _plain(torch.bfloat16)),
}
"""Number of a type in a file -> the type."""
