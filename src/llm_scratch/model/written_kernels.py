"""Products with 8- or 4-bit weights as explicit reductions, which a compiler fuses into one loop.

Four 8-bit weights are read as one 32-bit word, so that a processor without byte instructions
unpacks a whole register by two shifts. Eight 4-bit weights are read the same way, with a mask
instead of shifts: a masked digit is the weight times a power of 16, so its input is divided by that
power beforehand. The columns are stored in four blocks, each in its own part of memory: a core
reads four parts at once faster than one. Inputs are not rounded. Without a compiler these kernels
are slow. Whether they beat torch's own kernels in a compiled step is measured by compiling both.
Tests: tests/model/test_written_kernels.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from llm_scratch.hardware.compiled_products import Compile, compiled_seconds
from llm_scratch.hardware.packed_matmul import MIN_TRIAL_WIDTH, n_trial_copies
from llm_scratch.hardware.trials import Candidates, Seconds
from llm_scratch.model.kernel_choice import MAX_EXCESS, choose_kernel, trial_weight
from llm_scratch.model.quantized_kernels import (
    GROUP,
    KERNELS,
    TRACEABLE,
    Kernel,
    QuantizedWeight,
    random_weight,
    ranges_of,
    unpack_int4,
    usable,
)

BYTES = 4  # 8-bit weights in a word
DIGITS = 8  # 4-bit weights in a word
BLOCKS = GROUP // DIGITS  # blocks of columns; 4-bit weights: words in a group
MIN_GAIN = 1.1  # speedup over torch's kernel from which these kernels are used


def materialize(x: Tensor) -> Tensor:
    """Copy to memory of its own; otherwise the compiler recomputes the values for each output."""
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


def add_pairwise(terms: list[Tensor]) -> Tensor:
    """The sum of 2, 4, 8, ... terms, in an order in which the processor can add in parallel."""
    while len(terms) > 1:
        terms = [left + right for left, right in zip(terms[::2], terms[1::2])]
    return terms[0]


def store_by_block(words: Tensor) -> Tensor:
    """Give each block of columns its own part of memory: [N, BLOCKS, W] -> a view of that shape."""
    return words.transpose(0, 1).contiguous().transpose(0, 1)


class WrittenInt8:
    """Product of one row with 8-bit weights: [1, K] -> [1, N]. K is a multiple of 16."""

    def __init__(self, weight: QuantizedWeight) -> None:
        words = weight.qweight.view(torch.int32)  # [N, K / 4]
        self.words = store_by_block(words.unflatten(1, (BLOCKS, -1)))  # [N, 4, K / 16]
        self.scale = weight.scale

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        columns = x.float().view(BLOCKS, -1, BYTES)  # [4, K / 16, 4]
        columns = materialize(columns.permute(2, 0, 1))  # [4, 4, K / 16]
        terms = []
        for i in range(BYTES):
            shifted = self.words << (8 * (BYTES - 1 - i)) if i < BYTES - 1 else self.words
            terms.append((shifted >> 24) * columns[i])  # the shift to the right keeps the sign
        y = add_pairwise(terms).sum((1, 2)) * self.scale
        return (y if bias is None else y + bias)[None]

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.words, self.scale)


class WrittenInt4:
    """Product of one row with 4-bit weights: [1, K] -> [1, N]. K is a multiple of `GROUP`."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.scale = weight.scale  # [N, K / 32]
        digits = unpack_int4(weight.qweight).long()  # [N, K]
        digits = digits.unflatten(1, (-1, BLOCKS, DIGITS))  # [N, K / 32, 4, 8]
        digits[..., -1] ^= 8  # the highest digit contains the sign bit, so it is stored signed
        places = torch.arange(DIGITS) * 4
        words = (digits << places).sum(-1)  # [N, K / 32, 4], from 0 to 2**32 - 1
        words = torch.where(words >= 2**31, words - 2**32, words).int()
        self.words = store_by_block(words.transpose(1, 2))  # [N, 4, K / 32]
        self.masks = [15 << (4 * i) for i in range(DIGITS - 1)] + [-(1 << 28)]
        self.powers = (16.0 ** -torch.arange(DIGITS)).view(DIGITS, 1, 1)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        grouped = x.float().view(-1, BLOCKS, DIGITS).permute(2, 1, 0)  # [8, 4, K / 32]
        columns = materialize(grouped * self.powers)
        # all digits but the highest are offset by 8
        offset = materialize(8 * grouped[:-1].sum((0, 1)))  # [K / 32]
        terms = [(self.words & mask) * columns[i] for i, mask in enumerate(self.masks)]
        sums = add_pairwise(terms).sum(1) - offset  # [N, K / 32]
        y = (sums * self.scale.float()).sum(1)
        return (y if bias is None else y + bias)[None]

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.words, self.scale)


WRITTEN: dict[int, type[Kernel]] = {8: WrittenInt8, 4: WrittenInt4}
MULTIPLE = {8: BLOCKS * BYTES, 4: GROUP}
"""K must be a multiple of this, by bits"""


@cache
@torch.inference_mode()
def is_correct(bits: Literal[8, 4]) -> bool:
    """Whether the kernel is correct here: the byte order of a word could differ."""
    weight = random_weight(bits, 64, 64, torch.Generator().manual_seed(0))
    x = torch.arange(-32.0, 32)[None]
    exact = x @ weight.dequantize().T
    return bool((WRITTEN[bits](weight)(x, None) - exact).abs().max() <= 1e-5 * exact.abs().max())


def traceable_kernels(
    weight: QuantizedWeight, on_compile: Callable[[], None] = lambda: None
) -> tuple[type[Kernel] | None, type[Kernel] | None]:
    """Choose the kernels of a compiled step: for one row, and for several rows.

    Args:
        weight: the quantized matrix.
        on_compile: called before each compilation.
    Returns:
        For one row: None if no kernel can be exported, and the matrix is expanded in the step. For
        several: None if the fastest kernel cannot be exported.
    """
    bits = weight.bits
    N, K = weight.shape
    width = min(N, K)
    ours = choose_kernel(bits, width).kernel
    theirs = {name: KERNELS[name][1] for name in usable(bits) if KERNELS[name][1] in TRACEABLE}
    first = next(iter(theirs.values()), None)
    several = ours if ours in TRACEABLE else None
    if K % MULTIPLE[bits] or not is_correct(bits):
        return first, several
    written = WRITTEN[bits]
    if first is None:
        return written, several
    if width < MIN_TRIAL_WIDTH or width % GROUP:
        return first, several
    seconds = compiled_kernel_seconds(bits, width, theirs, on_compile)
    limit = MAX_EXCESS * min(seconds[name] for name in theirs)
    fastest = next(name for name in theirs if seconds[name] <= limit)  # earlier ones round less
    is_written = MIN_GAIN * seconds["written"] < seconds[fastest]
    return (written if is_written else theirs[fastest]), several


def compiled_kernel_seconds(
    bits: Literal[8, 4], width: int, theirs: dict[str, type[Kernel]], on_compile: Callable[[], None]
) -> Seconds:
    """Seconds of one compiled row by the kernel "written" here and by torch's. Measured once.

    Args:
        bits: per weight.
        width: of the matrix [4 * width, width].
        theirs: kernels of torch by name.
        on_compile: called before the compilation.
    """
    kernels = {"written": WRITTEN[bits], **theirs}

    def candidates(compiled: Compile) -> Candidates:
        x = torch.full((1, width), 0.5)
        weights = [trial_weight(bits, width) for _ in range(n_trial_copies(width))]
        calls = {}
        for name, kernel in kernels.items():
            run = compiled(lambda kernel, x: kernel(x, None))
            calls[name] = [partial(run, kernel(weight), x) for weight in weights]
        return calls

    question = f"a compiled product with {bits}-bit weights"
    size = [f"width {width}"]
    return compiled_seconds(question, list(kernels), candidates, size, on_compile)
