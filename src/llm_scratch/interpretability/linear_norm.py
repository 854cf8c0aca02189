"""A norm as a linear map at a fixed residual stream, to split its output into parts.

Tests: tests/interpretability/test_lenses.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from llm_scratch.errors import UserError


class LinearNorm(NamedTuple):
    """A norm at a fixed stream, as a linear map: norm(x) = scaled(x) + shift.

    Attributes:
        gain: [C], up to a factor that is in `scale`.
        scale: [..., 1], for each position.
        centers: whether the mean of a vector is subtracted first.
        shift: [C].
    """

    gain: Tensor
    scale: Tensor
    centers: bool
    shift: Tensor

    def scaled(self, part: Tensor) -> Tensor:
        """The share of a part of the stream in the normalized stream: [..., C] -> [..., C]."""
        return _centered(part, self.centers) * self.gain * self.scale


def linear_norm(norm: Any, stream: Tensor) -> LinearNorm:
    """Find the linear map of a norm at `stream`, [..., C], by applying the norm to three vectors.

    Layer norm and RMS norm are norm(x) = gain * P(x) / s(x) + shift, where P subtracts the mean or
    nothing and s is one value a vector. Zeros give the shift, ones show P, alternating signs give
    the gain up to a factor, and the stream itself gives s.

    Raises:
        UserError: the norm is not of this form.
    """
    with torch.no_grad():
        zeros = torch.zeros_like(stream[..., :1, :].flatten(0, -2)[0])  # [C]
        shift = norm(zeros)
        centers = torch.allclose(norm(zeros + 1), shift, atol=1e-5)
        signs = _centered(
            1.0 - 2 * (torch.arange(len(zeros), device=zeros.device) % 2).to(zeros), centers
        )
        gain = (norm(signs) - shift) / signs
        unscaled = _centered(stream, centers) * gain
        output = norm(stream) - shift
        scale = (output * unscaled).sum(-1, keepdim=True) / unscaled.square().sum(-1, keepdim=True)
        if not torch.allclose(
            unscaled * scale, output, rtol=1e-3, atol=1e-3 * output.abs().max().item()
        ):
            raise UserError(
                "logits cannot be attributed:"
                " a norm is not a scaled projection, as layer norm and RMS norm are"
            )
    return LinearNorm(gain, scale, centers, shift)


def _centered(x: Tensor, centers: bool) -> Tensor:
    return x - x.mean(-1, keepdim=True) if centers else x
