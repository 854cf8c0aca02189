"""Weights in 8 or 4 bits: a quarter or an eighth of the memory, and as writing one token reads every weight once, that much faster.

Symmetric: a weight is a whole number times a scale, and 0 stays 0. In 8 bits each row of a matrix has a scale, in 4 bits each group of
`GROUP` numbers in a row has one in bfloat16. Read `to_int8`, `to_int4` and their ways back: these four are all there is to it; the classes
hold the result and multiply by it fast. On a CPU the inputs of a product are rounded too, as few bits meet few bits fast: for 8 bits each
token to 8 bits with a scale of its own, for 4 bits to bfloat16. A row never changes with the rows beside it.
Proof that kernel and formula agree: tests/model/test_quantized.py. What all of it costs in bits per byte: `llm-scratch quantize` prints it.
Source: LLM.int8(), Dettmers et al. 2022, https://arxiv.org/abs/2208.07339; groups as in GPTQ, Frantar et al. 2022,
https://arxiv.org/abs/2210.17323, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.config import ModelConfig

GROUP = 32  # numbers that share a scale in 4 bits
TINY = torch.tensor(1e-12)  # in place of 0, where a division by 0 would follow
PAD = 64  # the 4-bit kernel takes matrices with a multiple of so many rows


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] -> whole numbers from -127 to 127, [N, K], and a scale for each row, [N]: the largest number of a row becomes 127."""
    scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127  # [N]
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def from_int8(numbers: Tensor, scale: Tensor) -> Tensor:
    """The way back: [N, K] and [N] -> [N, K] float32, each about half a step at most from what it was."""
    return numbers.float() * scale[:, None]


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] -> whole numbers from -8 to 7, two in a byte, [N, K / 2], and a scale for each group of a row, [N, K / GROUP].

    The number farthest from 0 becomes -8, so that all sixteen are used; where it was positive, the scale is negative.

    Raises:
        ValueError: K is not a multiple of GROUP.
    """
    N, K = weight.shape
    if K % GROUP:
        raise ValueError(f"rows of {K} numbers do not divide into groups of {GROUP}")
    groups = weight.reshape(N, K // GROUP, GROUP)
    farthest = groups.gather(2, groups.abs().argmax(2, keepdim=True)).squeeze(2)  # [N, K / GROUP]
    scale = torch.where(farthest == 0, 1e-12, -farthest / 8).bfloat16()  # [N, K / GROUP]
    digits = ((groups / scale[..., None]).round().clamp(-8, 7) + 8).to(torch.uint8).reshape(N, K)  # from 0 to 15
    return digits[:, ::2] | digits[:, 1::2] << 4, scale


def digits_of(packed: Tensor) -> Tensor:
    """The two digits of each byte, [N, K / 2] -> [N, K], from 0 to 15; 8 stands for the number 0."""
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


def from_int4(packed: Tensor, scale: Tensor) -> Tensor:
    """The way back: [N, K / 2] and [N, K / GROUP] -> [N, K] float32."""
    numbers = digits_of(packed).float() - 8
    return (numbers.unflatten(1, (-1, GROUP)) * scale[..., None]).flatten(1)


def product_int8(x: Tensor, columns: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """[M, K] times whole numbers [K, N] -> [M, N]: each row of x becomes whole numbers too, sums are exact, then come both scales."""
    x = x.float()
    step = torch.add(TINY, x.abs().amax(1, keepdim=True), alpha=1 / 127)  # [M, 1]
    sums = torch._int_mm((x / step).round_().to(torch.int8), columns)  # [M, N]
    y = sums.float().mul_(scale)
    return y.mul_(step) if bias is None else torch.addcmul(bias, y, step)


def product_int4(x: Tensor, packed: Tensor, scale: Tensor, N: int, bias: Tensor | None) -> Tensor:
    """[M, K] -> [M, N] by torch's kernel; `packed` and `scale` as `for_kernel_int4` gives them."""
    y = torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, GROUP, scale)  # [M, N], and the empty rows' outputs
    if y.shape[1] != N:
        y = y[:, :N]
    return y.float() if bias is None else y + bias


def for_kernel_int4(numbers: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Digits and scales of `to_int4` in the order that torch's kernel wants, with empty rows up to a multiple of PAD."""
    extra = -len(numbers) % PAD
    digits = F.pad(digits_of(numbers), (0, 0, 0, extra), value=8)
    scale = F.pad(scale, (0, 0, 0, extra)).T  # [K / GROUP, N]
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(digits.int(), 1)
    return packed, torch.stack([scale, torch.zeros_like(scale)], dim=2).contiguous()


class QuantizedLinear(nn.Module):
    """`nn.Linear` with its matrix in few bits; the bias stays as it is. [..., K] -> [..., N].

    Args:
        numbers, scale: as `to_int8` or `to_int4` gives them.
        bias: [N], or None.
    """

    numbers: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, numbers: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self._product: partial[Tensor] | None = None  # made at the first product on a CPU

    @property
    def bits(self) -> Literal[8, 4]:
        """8 or 4."""
        return 8 if self.numbers.dtype == torch.int8 else 4

    @property
    def weight(self) -> Tensor:
        """The matrix as it is in effect, [N, K]; made anew at each look."""
        return from_int8(self.numbers, self.scale) if self.bits == 8 else from_int4(self.numbers, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """x times the matrix; on a CPU without ever writing the matrix out, elsewhere by doing so."""
        product = self._product or self.prepare()
        if product is None:
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        y = product(x.reshape(-1, x.shape[-1]))  # [M, N]
        return (y if y.dtype == x.dtype else y.to(x.dtype)).view(*x.shape[:-1], -1)

    def prepare(self) -> partial[Tensor] | None:
        """The product of [M, K], with all at hand that it needs each time, as the first one makes it; None where there is no kernel."""
        if self.numbers.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return None
        if self.bits == 8:
            self._product = partial(product_int8, columns=self.numbers.T, scale=self.scale, bias=self.bias)
        else:
            packed, scale = for_kernel_int4(self.numbers, self.scale)
            self._product = partial(product_int4, packed=packed, scale=scale, N=len(self.numbers), bias=self.bias)
        return self._product

    def places(self) -> list[tuple[int, int]]:
        """Where in memory that lies which is read for each product: addresses and bytes."""
        at_hand = [] if self._product is None else self._product.keywords.values()
        return [(tensor.data_ptr(), tensor.nbytes) for tensor in at_hand if isinstance(tensor, Tensor)]

    def _apply(self, *args: Any, **kwargs: Any) -> QuantizedLinear:
        self._product = None  # what was at hand stays where it was, and the matrix goes
        return super()._apply(*args, **kwargs)


class QuantizedEmbedding(nn.Module):
    """`nn.Embedding` that reads its rows from a quantized head, as the two are one table in a tied model. [...] -> [..., C]."""

    def __init__(self, head: QuantizedLinear) -> None:
        super().__init__()
        self.head, self.num_embeddings = head, len(head.numbers)

    @property
    def weight(self) -> Tensor:
        """The table as it is in effect, [V, C]; made anew at each look."""
        return self.head.weight

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of these tokens."""
        numbers, scale = self.head.numbers[ids.flatten()], self.head.scale[ids.flatten()]
        rows = from_int8(numbers, scale) if self.head.bits == 8 else from_int4(numbers, scale)
        return rows.reshape(*ids.shape, -1)


def quantize(model: nn.Module, bits: Literal[8, 4]) -> nn.Module:
    """Put every `nn.Linear` of a model into 8 or 4 bits, in place; norms, biases and untied embeddings stay. The model can no longer learn.

    Raises:
        ValueError: 4 bits, and a matrix whose rows do not divide into groups; names it.
    """
    if hasattr(model, "cfg"):
        model.cfg = replace(ModelConfig.of(model.cfg), bits=bits)  # type: ignore[arg-type, assignment]
    tied = hasattr(model, "tok_emb") and hasattr(model, "out_head") and model.tok_emb.weight is model.out_head.weight  # type: ignore[union-attr]
    for name, part in list(model.named_modules()):
        if not isinstance(part, nn.Linear):
            continue
        try:
            numbers, scale = to_int8(part.weight.detach()) if bits == 8 else to_int4(part.weight.detach())
        except ValueError as e:
            raise ValueError(f"{name}: {e}; 8 bits take any size") from e
        bias = None if part.bias is None else part.bias.detach()
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, QuantizedLinear(numbers, scale, bias))
    if tied:
        model.tok_emb = QuantizedEmbedding(model.out_head)  # type: ignore[arg-type]
    return model.requires_grad_(False)
