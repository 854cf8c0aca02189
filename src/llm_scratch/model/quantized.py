"""Quantization: weights in 8 or 4 bits, for less memory and faster generation.

Symmetric: a weight is an integer times a scale, and 0 stays 0. In 8 bits each row of a matrix has a
scale; in 4 bits each group of `GROUP` values in a row has one, in bfloat16. `to_int8`, `to_int4`
and their inverses are the formula. On a CPU the inputs of a product are rounded too, by the fastest
kernel of the machine (quantized_kernels.py): each row to 8 or 7 bits with its own scale, or to
bfloat16. The result of a row does not depend on the other rows.
Tests: tests/model/test_quantized.py. Cost in bits per byte: printed by `llm-scratch quantize`.
Source: LLM.int8(), Dettmers et al. 2022, https://arxiv.org/abs/2208.07339; groups as in GPTQ,
Frantar et al. 2022, https://arxiv.org/abs/2210.17323, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import describe_error
from llm_scratch.model.kernel_choice import MANY_ROWS, KernelChoice, choose_kernel, linear_expanded
from llm_scratch.model.language_model import as_language_model
from llm_scratch.model.quantized_kernels import (
    GROUP,
    TRACEABLE,
    Expanded,
    Kernel,
    QuantizedWeight,
)
from llm_scratch.model.written_kernels import WRITTEN, traceable_kernels

Model = TypeVar("Model", bound=nn.Module)


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize to 8 bits per weight: [N, K] -> int8 [N, K] from -127 to 127, and scales [N].

    The value of largest magnitude in a row becomes 127 or -127.
    """
    scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127  # [N]
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def from_int8(qweight: Tensor, scale: Tensor) -> Tensor:
    """Dequantize 8 bits: [N, K], [N] -> [N, K] float32, within half a step of the original."""
    return QuantizedWeight(qweight, scale).dequantize()


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize to 4 bits per weight: [N, K] -> two a byte, [N, K / 2], and scales [N, K / GROUP].

    Values are integers from -8 to 7. The value of largest magnitude in a group becomes -8, so that
    all sixteen levels are used; if it is positive, the scale is negative.

    Raises:
        ValueError: K is not a multiple of GROUP.
    """
    N, K = weight.shape
    _check_groups(K)
    groups = weight.reshape(N, K // GROUP, GROUP)
    extreme = groups.gather(2, groups.abs().argmax(2, keepdim=True)).squeeze(2)  # [N, K / GROUP]
    scale = torch.where(extreme == 0, 1e-12, -extreme / 8).bfloat16()  # [N, K / GROUP]
    steps = (groups / scale[..., None]).round().clamp(-8, 7)
    digits = (steps + 8).to(torch.uint8).reshape(N, K)  # from 0 to 15
    return digits[:, ::2] | digits[:, 1::2] << 4, scale


def _check_groups(K: int) -> None:
    if K % GROUP:
        raise ValueError(f"rows of {K} values do not divide into groups of {GROUP}")


def from_int4(packed: Tensor, scale: Tensor) -> Tensor:
    """Dequantize 4 bits: [N, K / 2] and [N, K / GROUP] -> [N, K] float32."""
    return QuantizedWeight(packed, scale).dequantize()


class QuantizedLinear(nn.Module):
    """Linear layer with a quantized weight; the bias keeps its type. [..., K] -> [..., N].

    Args:
        qweight, scale: as from `to_int8` or `to_int4`.
        bias: [N], or None.
    """

    qweight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, qweight: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("qweight", qweight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self._choice: KernelChoice | None = None  # made at the first product on a CPU
        self._kernel: Kernel | None = None
        self._export_kernels: tuple[Kernel | None, Kernel | None] = (None, None)

    @property
    def quantized(self) -> QuantizedWeight:
        """The weight as it is stored."""
        return QuantizedWeight(self.qweight, self.scale)

    @property
    def bits(self) -> Literal[8, 4]:
        """8 or 4."""
        return self.quantized.bits

    @property
    def out_features(self) -> int:
        """N."""
        return len(self.qweight)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight, [N, K] float32; computed at each access."""
        return self.quantized.dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """Compute x W^T + bias; on a CPU by the fastest kernel, else by dequantizing each time."""
        if self.qweight.device.type != "cpu":
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        choice = self._choice or self.prepare()
        rows = x.reshape(-1, x.shape[-1])  # [M, K]
        if torch.compiler.is_exporting():
            y = self._traceable(rows)
        elif choice.many_rows is not None and len(rows) >= MANY_ROWS:
            y = linear_expanded(rows, self.quantized, self.bias, choice.many_rows)
        else:
            y = self._kernel(rows, self.bias)  # type: ignore[misc]
        return (y if y.dtype == x.dtype else y.to(x.dtype)).view(*x.shape[:-1], -1)

    def _traceable(self, rows: Tensor) -> Tensor:
        """The product in a compiled step; see `prepare_for_export`."""
        one_row, batch = self._export_kernels
        kernel = batch if rows.shape[0] > 1 else one_row  # `len` would fix the number of rows
        if kernel is None:
            return F.linear(rows.float(), self.weight, self.bias)
        return kernel(rows, self.bias)

    def prepare_for_export(self, on_compile: Callable[[], None] = lambda: None) -> bool:
        """Choose the kernels of a compiled step.

        Args:
            on_compile: called before each compilation.
        Returns:
            Whether the fastest kernel for several rows can be exported.
        """
        kinds = traceable_kernels(self.quantized, on_compile)
        self._export_kernels = tuple(kind and kind(self.quantized) for kind in kinds)  # type: ignore[assignment]
        return kinds[1] is not None

    @property
    def gains_by_compiling(self) -> bool:
        """Whether compiling this layer alone, outside a compiled step, makes one row faster.

        That is so if the written kernel is faster than the kernel that would be used otherwise.
        """
        choice = self._choice or self.prepare()
        is_written = isinstance(self._export_kernels[0], WRITTEN[self.bits])
        return is_written and choice.kernel in (*TRACEABLE, Expanded)

    def prepare(self) -> KernelChoice:
        """Choose the kernel and prepare its weights; otherwise done at the first product."""
        self._choice = choose_kernel(self.bits, min(self.quantized.shape))
        self._kernel = self._choice.kernel(self.quantized)
        return self._choice

    def memory_ranges(self) -> list[tuple[int, int]]:
        """Memory ranges of the weight of one row's product: (address, bytes)."""
        kernel = self._export_kernels[0] or self._kernel
        return [] if kernel is None else kernel.memory_ranges()

    def _apply(self, *args: Any, **kwargs: Any) -> QuantizedLinear:
        self._choice, self._kernel = None, None  # their tensors would stay on the old device
        self._export_kernels = (None, None)
        return super()._apply(*args, **kwargs)


class QuantizedEmbedding(nn.Module):
    """Embedding that reads its rows from the quantized head of a tied model. [...] -> [..., C]."""

    def __init__(self, head: QuantizedLinear) -> None:
        super().__init__()
        self.head = head
        self.num_embeddings = len(head.qweight)

    @property
    def weight(self) -> Tensor:
        """The dequantized table, [V, C]; computed at each access."""
        return self.head.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of the tokens."""
        flat = ids.flatten()
        qweight = self.head.qweight[flat]
        scale = self.head.scale[flat]
        rows = from_int8(qweight, scale) if self.head.bits == 8 else from_int4(qweight, scale)
        return rows.reshape(*ids.shape, -1)


def quantize(model: Model, bits: Literal[8, 4]) -> Model:
    """Quantize every `nn.Linear` of a model to 8 or 4 bits, in place.

    Norms, biases and untied embeddings keep their type. The model can no longer be trained.

    Raises:
        ValueError: 4 bits, and a matrix whose rows do not divide into groups; names the matrix,
            and the model is as it was.
    """
    tied = as_language_model(model).head_is_tied
    linears = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    for name, part in linears.items():
        try:
            if bits == 4:
                _check_groups(part.in_features)
        except ValueError as e:
            raise ValueError(f"{name}: {describe_error(e)}; use 8 bits, which take any size") from e
    to_integers = to_int8 if bits == 8 else to_int4
    for name, part in linears.items():
        qweight, scale = to_integers(part.weight.detach())
        bias = None if part.bias is None else part.bias.detach()
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, QuantizedLinear(qweight, scale, bias))
    head = model.get_submodule("out_head") if tied else None
    if isinstance(head, QuantizedLinear):
        model.tok_emb = QuantizedEmbedding(head)
    return model.requires_grad_(False)
