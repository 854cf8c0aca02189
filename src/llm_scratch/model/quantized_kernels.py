"""Matrix products with 8- or 4-bit weights on a CPU: torch's kernels, and which of them work here.

Their speed depends on the processor and on torch's build, so each kernel is tried: first whether it
is correct (here), then how long it takes (kernel_choice.py). `QuantizedWeight` is the formula that
all of them compute; they differ in how they round their inputs. A row's result never depends on
other rows.
Tests: tests/model/test_quantized_kernels.py.
Sources: integer products, Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 2.2;
FBGEMM, Khudia et al. 2021, https://arxiv.org/abs/2101.05615.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.hardware.packed_matmul import (
    pack_weight,
    packed_matmul,
    packed_range,
    packing_pays,
)

GROUP = 32  # weights that share a scale in 4 bits
KERNEL_ROWS = 64  # torch's 4-bit kernel needs a multiple of this many rows
MIN_SCALE = torch.tensor(1e-12)  # avoids a division by zero
INT_TOLERANCE = 1e-5  # relative to the sum of the terms' magnitudes, for integer sums
BFLOAT16_TOLERANCE = 2**-8  # the same for results in bfloat16


class QuantizedWeight(NamedTuple):
    """A quantized matrix: `weight = qweight * scale`.

    In 8 bits each row has a scale, in 4 bits each `GROUP` of values in a row.
    """

    qweight: Tensor
    """[N, K] int8, or [N, K / 2] uint8 with two 4-bit values a byte, offset by 8"""
    scale: Tensor
    """[N] float32, or [N, K / GROUP] bfloat16"""

    @property
    def bits(self) -> Literal[8, 4]:
        """8 or 4."""
        return 8 if self.qweight.dtype == torch.int8 else 4

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        N, columns = self.qweight.shape
        return N, columns if self.bits == 8 else 2 * columns

    def dequantize(self) -> Tensor:
        """The matrix in float32, [N, K]."""
        if self.bits == 8:
            return self.qweight.float() * self.scale[:, None]
        values = unpack_int4(self.qweight).float() - 8
        return (values.unflatten(1, (-1, GROUP)) * self.scale[..., None]).flatten(1)


def unpack_int4(qweight: Tensor) -> Tensor:
    """Split bytes into 4-bit values, from 0 to 15, offset by 8: [N, K / 2] -> [N, K]."""
    return torch.stack([qweight & 15, qweight >> 4], dim=2).flatten(1)


class Kernel(Protocol):
    """Matrix product with one quantized weight, prepared once."""

    def __init__(self, weight: QuantizedWeight) -> None: ...

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[M, K] float -> [M, N] float32, plus the bias [N]."""

    def memory_ranges(self) -> list[tuple[int, int]]:
        """Memory ranges that a product reads: (address, bytes)."""


def ranges_of(*tensors: Tensor) -> list[tuple[int, int]]:
    """Memory ranges of tensors: (address, bytes)."""
    return [(tensor.data_ptr(), tensor.nbytes) for tensor in tensors]


def row_steps(x: Tensor, levels: int) -> Tensor:
    """Quantization step of each row; its largest magnitude becomes `levels`. [M, K] -> [M, 1]."""
    return torch.add(MIN_SCALE, x.abs().amax(1, keepdim=True), alpha=1 / levels)


def rescale(y: Tensor, step: Tensor, bias: Tensor | None) -> Tensor:
    """Undo the rounding of inputs: y [M, N] times the step of each row [M, 1], plus the bias."""
    return y.mul_(step) if bias is None else torch.addcmul(bias, y, step)


class IntMatmul:
    """`torch._int_mm`: inputs rounded to 8 bits, sums in whole numbers. Fast where oneDNN has VNNI.

    Without VNNI its instructions add pairs of products in 16 bits, which can overflow.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        self.columns, self.scale = weight.qweight.T, weight.scale

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        x = x.float()
        step = row_steps(x, 127)
        sums = torch._int_mm((x / step).round_().to(torch.int8), self.columns)  # [M, N]
        return rescale(sums.float().mul_(self.scale), step, bias)

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.columns, self.scale)


class FbgemmMatmul:
    """FBGEMM's product for x86 servers: inputs rounded to 8 bits, integer sums.

    Without VNNI its instructions add pairs of products in 16 bits, which can overflow: see
    `Fbgemm7Matmul`.
    """

    levels = 127

    def __init__(self, weight: QuantizedWeight) -> None:
        before = torch.backends.quantized.engine
        try:
            torch.backends.quantized.engine = "fbgemm"
            # deprecated in torch 2.13
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                zeros = torch.zeros(len(weight.scale), dtype=torch.long)
                matrix = torch._make_per_channel_quantized_tensor(
                    weight.qweight, weight.scale.double(), zeros, 0
                )
            self.packed = torch.ops.quantized.linear_prepack(matrix, None)
        finally:
            torch.backends.quantized.engine = before
        self.multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        x = x.float()
        step = row_steps(x, self.levels)
        rounded = (x / step).round_()  # the kernel rounds after adding the zero point
        return rescale(self.multiply(rounded, 1.0, self.levels + 1, self.packed), step, bias)

    def memory_ranges(self) -> list[tuple[int, int]]:
        """Return an empty list: FBGEMM does not expose its memory."""
        return []


class Fbgemm7Matmul(FbgemmMatmul):
    """FBGEMM with inputs rounded to 7 bits: a pair of products then fits into 16 bits."""

    levels = 63


class WeightOnlyInt8:
    """`torch._weight_int8pack_mm`: inputs and results in bfloat16, weights widened on the way."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.qweight, self.scale = weight.qweight, weight.scale
        self.ones = torch.ones(len(weight.scale), dtype=torch.bfloat16)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        y = torch._weight_int8pack_mm(x.bfloat16(), self.qweight, self.ones).float() * self.scale
        return y if bias is None else y.add_(bias)

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.qweight, self.scale)


class WeightOnlyInt4:
    """torch's 4-bit kernel for CPUs: inputs and results in bfloat16."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.N = weight.shape[0]
        extra = -self.N % KERNEL_ROWS
        digits = F.pad(unpack_int4(weight.qweight), (0, 0, 0, extra), value=8)
        scale = F.pad(weight.scale, (0, 0, 0, extra)).T  # [K / GROUP, N]
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(digits.int(), 1)
        self.scale_and_zero = torch.stack([scale, torch.zeros_like(scale)], dim=2).contiguous()

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
        y = multiply(x.bfloat16(), self.packed, GROUP, self.scale_and_zero)  # [M, N] and padding
        if y.shape[1] != self.N:
            y = y[:, : self.N]
        return y.float() if bias is None else y + bias

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return ranges_of(self.packed, self.scale_and_zero)


class Expanded:
    """The matrix dequantized to float32 once, with the speed and memory of an unquantized model."""

    def __init__(self, weight: QuantizedWeight) -> None:
        matrix = weight.dequantize()
        self.is_packed = packing_pays(torch.float32, min(weight.shape))
        self.matrix = pack_weight(matrix) if self.is_packed else matrix

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As `Kernel`."""
        x = x.float()
        if self.is_packed:
            return packed_matmul(x, self.matrix, bias)
        return F.linear(x, self.matrix, bias)

    def memory_ranges(self) -> list[tuple[int, int]]:
        """As `Kernel`."""
        return [packed_range(self.matrix)] if self.is_packed else ranges_of(self.matrix)


KERNELS: dict[str, tuple[int, type[Kernel]]] = {
    "int_mm": (8, IntMatmul),
    "fbgemm": (8, FbgemmMatmul),
    "fbgemm, 7-bit inputs": (8, Fbgemm7Matmul),
    "int8 weight-only": (8, WeightOnlyInt8),
    "int4 weight-only": (4, WeightOnlyInt4),
}
"""Kernels by name: bits and class. Without a clear difference in time, the first is preferred."""

TRACEABLE = (IntMatmul, WeightOnlyInt8, WeightOnlyInt4)  # kernels that torch.export can capture


def rounded_inputs(kernel: type[Kernel], x: Tensor) -> Tensor:
    """Inputs as a kernel rounds them: to its levels, or to bfloat16. [M, K] -> [M, K]."""
    if issubclass(kernel, (IntMatmul, FbgemmMatmul)):
        step = row_steps(x, getattr(kernel, "levels", 127))
        return (x / step).round() * step
    return x if kernel is Expanded else x.bfloat16().float()


@cache
def usable(bits: Literal[8, 4]) -> tuple[str, ...]:
    """Names of the kernels for these bits that work on this machine; tried once per process."""
    return tuple(
        name for name, (of, kernel) in KERNELS.items() if of == bits and is_correct(kernel)
    )


@torch.inference_mode()
def is_correct(kernel: type[Kernel]) -> bool:
    """Whether a kernel runs here and is correct, for extreme values too, row by row."""
    try:
        return all(_is_correct(kernel, N, K) for N, K in ((64, 64), (37, 96)))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def _is_correct(kernel: type[Kernel], N: int, K: int) -> bool:
    generator = torch.Generator().manual_seed(N)
    weight = random_weight(4 if kernel is WeightOnlyInt4 else 8, N, K, generator)
    x = torch.randn(40, K, generator=generator)
    x[0] = 3.0  # rows of the largest inputs: sums that can overflow do so here
    x[1] = -3.0
    matrix = weight.dequantize()
    product = kernel(weight)
    y = product(x, None)
    exact = rounded_inputs(kernel, x).double() @ matrix.double().T
    error = (y - exact).abs() / (x.abs() @ matrix.abs().T)
    spans = slice(0, 1), slice(1, 2), slice(7, 10)
    rows_agree = all(torch.equal(product(x[span], None), y[span]) for span in spans)
    is_exact = issubclass(kernel, (IntMatmul, FbgemmMatmul))
    return rows_agree and bool(error.max() < (INT_TOLERANCE if is_exact else BFLOAT16_TOLERANCE))


def random_weight(bits: int, N: int, K: int, generator: torch.Generator) -> QuantizedWeight:
    """A quantized matrix [N, K] to test a kernel; in 8 bits its first two rows are 127 and -127."""
    if bits == 4:
        qweight = torch.randint(0, 256, (N, K // 2), generator=generator, dtype=torch.uint8)
        return QuantizedWeight(
            qweight, torch.rand(N, K // GROUP, generator=generator).bfloat16() + 0.1
        )
    qweight = torch.randint(-127, 128, (N, K), generator=generator, dtype=torch.int8)
    qweight[0] = 127
    qweight[1] = -127
    return QuantizedWeight(qweight, torch.rand(N, generator=generator) + 0.1)
