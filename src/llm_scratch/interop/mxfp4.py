"""Read weights in MXFP4, the 4-bit format of the published gpt-oss models, as bfloat16.

32 values share a scale, a power of two; each is one of 16 numbers. A tensor NAME is two in a file:
NAME_blocks, [..., G, 16], two values in each byte, the first in its lower half; and NAME_scales,
[..., G], exponents plus 127:

    value = NUMBERS[4 bits] 2^(scale - 127)

bfloat16 has the exponents of float32 and more digits than these numbers, so it holds them exactly.
Tests: tests/interop/test_mxfp4.py (equal to transformers' own dequantization).
Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 5.4.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.safetensors import Entry, TensorFiles

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NUMBERS = torch.tensor([*MAGNITUDES, *(-magnitude for magnitude in MAGNITUDES)])
BIAS = 127
BLOCKS, SCALES = "_blocks", "_scales"
BYTES_PER_BLOCK = 16


class DequantizedTensors:
    """Tensors of files in which some are MXFP4: those appear as bfloat16, [..., in, out].

    Args:
        files: the files.
    Raises:
        UserError: blocks without their scales, or of other shapes (code 4).
    """

    def __init__(self, files: TensorFiles) -> None:
        self.files = files
        pairs = {name for name in files.tensors if name.endswith((BLOCKS, SCALES))}
        self.packed = {name.removesuffix(BLOCKS).removesuffix(SCALES) for name in pairs}
        plain = {name: entry for name, entry in files.tensors.items() if name not in pairs}
        self.tensors: Mapping[str, Entry] = plain | {
            name: self._entry(name) for name in self.packed
        }

    def read(self, name: str) -> Tensor:
        """Read a tensor into new memory; matrix by matrix, as steps of `dequantize` take more."""
        if name not in self.packed:
            return self.files.read(name)
        *first, n_in, n_out = self.tensors[name].shape
        values = torch.empty(*first, n_out, n_in, dtype=torch.bfloat16)
        blocks, scales = self.files.read(name + BLOCKS), self.files.read(name + SCALES)
        for index in itertools.product(*map(range, first)):
            values[index] = dequantize(blocks[index], scales[index])
        return values.mT  # [..., in, out]

    def _entry(self, name: str) -> Entry:
        """A tensor as it is read."""
        blocks, scales = (self.files.tensors.get(name + end) for end in (BLOCKS, SCALES))
        known = blocks or scales
        assert known is not None
        shape = () if blocks is None else blocks.shape
        if (
            blocks is None
            or scales is None
            or {blocks.dtype, scales.dtype} != {torch.uint8}
            or len(shape) < 3
            or shape != (*scales.shape, BYTES_PER_BLOCK)
        ):
            raise UserError(
                f"{known.file}: {name} is not in MXFP4; expected {name}{BLOCKS}, uint8"
                f" [..., {BYTES_PER_BLOCK}], and {name}{SCALES}, uint8 [...]",
                CHECKPOINT,
            )
        *first, rows, groups, size = shape
        return blocks._replace(dtype=torch.bfloat16, shape=(*first, 2 * groups * size, rows))


def dequantize(blocks: Tensor, scales: Tensor) -> Tensor:
    """The values of a tensor: [..., G, 16] and [..., G], both uint8, -> float32 [..., 32 G]."""
    halves = torch.stack([blocks & 0x0F, blocks >> 4], -1).flatten(-2)  # [..., G, 32]
    values = NUMBERS[halves.int()]  # [..., G, 32]
    return values.ldexp(scales.int()[..., None] - BIAS).flatten(-2)
