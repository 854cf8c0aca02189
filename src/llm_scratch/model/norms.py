"""RMS normalization: scale every vector to a mean square of 1, without subtracting its mean.

    y = x / sqrt(mean(x^2) + eps) * weight

Layer norm without its mean and its shift: half the parameters, fewer passes over memory, and as
good for training.
Tests: tests/model/test_norms.py (equal to the formula, and to transformers' Llama and Gemma).
Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization",
https://arxiv.org/abs/1910.07467.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """RMS normalization with a learned scale. [..., size] -> the same shape.

    Args:
        size: of the vectors.
        eps: added to the mean square.
        unit_offset: multiply by 1 + weight, with a weight that starts at 0, as Gemma does. Weight
            decay then pulls the scale to 1 and not to 0.
    """

    def __init__(self, size: int, eps: float = 1e-6, unit_offset: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.unit_offset = unit_offset
        self.weight = nn.Parameter(torch.zeros(size) if unit_offset else torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the formula by PyTorch's kernel, in float32 inside."""
        weight = (1 + self.weight if self.unit_offset else self.weight).type_as(x)
        is_one_token = x.shape[-2:-1] == (1,) and x.device.type == "cpu"
        if is_one_token and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return rms_norm_of_a_token(x, weight, self.eps)
        return F.rms_norm(x, weight.shape, weight, self.eps)


def rms_norm_of_a_token(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`F.rms_norm` as half of a layer norm, of x beside -x. [..., size] -> the same shape.

    Their mean is 0, so the variance is mean(x^2). On a CPU PyTorch has one kernel for it, and six
    for `F.rms_norm`; for a single new token their starts cost more than the work.
    """
    both = torch.cat([x, -x], -1)
    y = torch.layer_norm(both, both.shape[-1:], torch.cat([weight, weight]), None, eps)
    return y[..., : len(weight)]
