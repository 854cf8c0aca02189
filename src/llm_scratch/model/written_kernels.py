"""Products with 8- or 4-bit weights as explicit reductions, which a compiler fuses into one loop.

Four 8-bit weights are read as one 32-bit word, so that a processor without byte instructions
unpacks a whole register by two shifts. Eight 4-bit weights are read the same way, with a mask
instead of shifts: a masked digit is the weight times a power of 16, so its input is divided by that
power beforehand. Inputs are not rounded. Without a compiler these kernels are slow. Whether they
beat torch's own kernels in a compiled step is measured by compiling both once.
Tests: tests/model/test_written_kernels.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from llm_scratch.hardware.packed_matmul import MIN_TRIAL_WIDTH, n_trial_copies
from llm_scratch.hardware.trials import Seconds, cached_timings, time_tokens
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

COMPILE_OPTIONS: dict[str, Any] = {"cpp.enable_floating_point_contract_flag": "fast"}
"""Options of torch's compiler: allow fused multiply-add."""
BYTES = 4  # 8-bit weights in a word
DIGITS = 8  # 4-bit weights in a word
WORDS = GROUP // DIGITS  # words in a group of 4-bit weights
MIN_GAIN = 1.1  # speedup over torch's kernel from which these kernels are used


def materialize(x: Tensor) -> Tensor:
    """Copy to memory of its own; otherwise the compiler recomputes the values for each output."""
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


class WrittenInt8:
    """Product of one row with 8-bit weights: [1, K] -> [1, N]. K is a multiple of 4."""

    def __init__(self, weight: QuantizedWeight) -> None:
        words = weight.qweight.view(torch.int32)  # [N, K / 4]
        self.words = words
        self.scale = weight.scale

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        columns = materialize(x.float().view(-1, BYTES).t())  # [4, K / 4]
        y = torch.zeros(())
        for i in range(BYTES):
            shifted = self.words << (8 * (BYTES - 1 - i)) if i < BYTES - 1 else self.words
            y = y + (shifted >> 24).float() * columns[i]  # the shift to the right keeps the sign
        y = y.sum(1) * self.scale
        return (y if bias is None else y + bias)[None]

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.words, self.scale)


class WrittenInt4:
    """Product of one row with 4-bit weights: [1, K] -> [1, N]. K is a multiple of `GROUP`."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.scale = weight.scale  # [N, K / 32]
        digits = unpack_int4(weight.qweight).long()  # [N, K]
        digits = digits.unflatten(1, (-1, WORDS, DIGITS))  # [N, K / 32, 4, 8]
        digits[..., -1] ^= 8  # the highest digit contains the sign bit, so it is stored signed
        places = torch.arange(DIGITS) * 4
        words = (digits << places).sum(-1)  # [N, K / 32, 4], from 0 to 2**32 - 1
        words = torch.where(words >= 2**31, words - 2**32, words).int()
        self.words = words.transpose(1, 2).contiguous()  # [N, 4, K / 32]
        self.masks = [15 << (4 * i) for i in range(DIGITS - 1)] + [-(1 << 28)]
        self.powers = (16.0 ** -torch.arange(DIGITS)).view(DIGITS, 1)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        grouped = x.float().view(-1, WORDS, DIGITS).permute(1, 2, 0)  # [4, 8, K / 32]
        columns = materialize(grouped * self.powers)
        # all digits but the highest are offset by 8
        offset = materialize(8 * grouped[:, :-1].sum((0, 1)))  # [K / 32]
        sums = [torch.zeros(())] * DIGITS
        for word in range(WORDS):
            for i in range(DIGITS):  # a sum per digit, so that the processor adds in parallel
                sums[i] = sums[i] + (self.words[:, word] & self.masks[i]).float() * columns[word, i]
        while len(sums) > 1:
            sums = [left + right for left, right in zip(sums[::2], sums[1::2])]
        y = ((sums[0] - offset) * self.scale.float()).sum(1)
        return (y if bias is None else y + bias)[None]

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.words, self.scale)


WRITTEN: dict[int, type[Kernel]] = {8: WrittenInt8, 4: WrittenInt4}
MULTIPLE = {8: BYTES, 4: GROUP}
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
    seconds = compiled_seconds(bits, width, theirs, on_compile)
    limit = MAX_EXCESS * min(seconds[name] for name in theirs)
    fastest = next(name for name in theirs if seconds[name] <= limit)  # earlier ones round less
    is_written = MIN_GAIN * seconds["written"] < seconds[fastest]
    return (written if is_written else theirs[fastest]), several


def compiled_seconds(
    bits: Literal[8, 4], width: int, theirs: dict[str, type[Kernel]], on_compile: Callable[[], None]
) -> Seconds:
    """Seconds of one compiled row by the kernel "written" here and by torch's. Measured once.

    Args:
        bits: per weight.
        width: of the matrix [4 * width, width].
        theirs: kernels of torch by name.
        on_compile: called before the compilation.
    """

    def measure() -> Seconds:
        on_compile()
        n_copies = n_trial_copies(width)
        x = torch.full((1, width), 0.5)
        weight = trial_weight(bits, width)
        kernels = {"written": WRITTEN[bits], **theirs}
        # older torch reuses a stored program that was compiled for another number of threads
        options = COMPILE_OPTIONS | {"cpp.threads": torch.get_num_threads()}
        calls = {}
        for name, kernel in kernels.items():
            compiled = torch.compile(kernel(weight), options=options, dynamic=False)
            calls[name] = [partial(compiled, x, None)] * n_copies
        return time_tokens(calls)

    with torch.no_grad():
        question = f"a compiled product with {bits}-bit weights"
        size = f"width {width}", f"{torch.get_num_threads()} threads"
        return cached_timings(question, ["written", *theirs], size, measure)
