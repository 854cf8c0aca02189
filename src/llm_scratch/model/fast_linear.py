"""Linear layers by oneDNN's own operator, for training where a trial found it faster.

Tests: tests/model/test_fast_linear.py (equal to `nn.Linear`, gradients too).
Gain: LOG.md, 2026-11-29.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.hardware.linear_kernel import FORWARD, INPUT_GRADIENT, onednn_linear

MIN_WEIGHTS = 2**17  # elements; for smaller matrices the Python calls cost more than the gain
MIN_ROWS = 32


def large_shapes(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Distinct shapes (out, in) of the blocks' linear layers that are large enough."""
    parts = [part for name, part in model.named_modules() if name != "out_head"]
    return tuple(sorted({(len(p.weight), p.weight.shape[1]) for p in parts if _is_large(p)}))


def set_products(model: nn.Module, products: Sequence[str]) -> None:
    """Compute these products of the model's large linear layers by oneDNN; an empty list undoes it.

    Args:
        model: changed in place.
        products: as from `faster_products`.
    """
    for part in model.modules():
        if _is_large(part):
            if FORWARD in products:
                forward = partial(_forward, part, INPUT_GRADIENT in products)
                part.forward = forward  # type: ignore[method-assign]
            else:
                part.__dict__.pop("forward", None)


def fast_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` without gradients: by oneDNN for float32 and more than a few rows."""
    few_rows = x.numel() < MIN_ROWS * x.shape[-1]
    plain = x.dtype != torch.float32 or few_rows or torch.is_autocast_enabled("cpu")
    return F.linear(x, weight, bias) if plain else onednn_linear(x, weight, bias)


def _is_large(part: nn.Module) -> TypeGuard[nn.Linear]:
    return type(part) is nn.Linear and part.weight.numel() >= MIN_WEIGHTS


def _forward(part: nn.Linear, gradient_too: bool, x: Tensor) -> Tensor:
    """Compute `part(x)`, by oneDNN where possible."""
    plain = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if plain or x.dtype != torch.float32:
        return F.linear(x, part.weight, part.bias)
    if not torch.is_grad_enabled():
        return fast_product(x, part.weight, part.bias)
    return _FastLinear.apply(x, part.weight, part.bias, gradient_too)


class _FastLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gradient_too: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gradient_too, ctx.has_bias = gradient_too, bias is not None
        return fast_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = gradients[0].flatten(0, -2)  # [M, N]
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = fast_product(dy, weight.T) if ctx.gradient_too else dy @ weight  # [M, K]
            dx = dx.view_as(x)
        if ctx.needs_input_grad[1]:
            dweight = dy.T @ x.flatten(0, -2)  # [N, K]
        if ctx.has_bias and ctx.needs_input_grad[2]:
            dbias = dy.sum(0)
        return dx, dweight, dbias, None
