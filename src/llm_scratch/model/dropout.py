"""Dropout: during training, set a share of the elements to 0 and scale up the others.

PyTorch's dropout draws a 53-bit number for each element, which takes an eighth of a training step
on a CPU; `dropout_mask` draws 16 bits.
Tests: tests/model/test_dropout.py. Gain: LOG.md.
Source: Srivastava et al. 2014, "Dropout", https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Observer = Callable[[str, Tensor], Tensor]
"""(name of a step of the attention, its tensor) -> the tensor to continue with"""
THRESHOLD_LEVELS = 2**16  # resolution of the probability: 0.1 becomes 6554 levels, or 0.100006


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """Random mask: 0 with probability p (rounded to 1/65,536), else 1 / (1 - p), so its mean is 1.

    Shape and type are those of x.
    """
    dropped = round(p * THRESHOLD_LEVELS)
    if dropped == THRESHOLD_LEVELS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(
        -(2**63), None
    )
    # four draws a word, each uniform from -32,768 to 32,767
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.ge(draws, dropped - THRESHOLD_LEVELS // 2, out=kept)  # a bool tensor costs two passes
    return kept.mul_(THRESHOLD_LEVELS / (THRESHOLD_LEVELS - dropped))


class Dropout(nn.Dropout):
    """Dropout layer. Any shape -> the same shape.

    By default `nn.Dropout`, so that a seed drops the same elements as in the notebooks.

    Attributes:
        fast: draw by `dropout_mask` on a CPU; set by `training.model_with_loss`.
        observers: functions that see and may replace the steps of the attention whose weights this
            layer drops; set by `interpretability.capture`.
    """

    fast = False
    observers: tuple[Observer, ...] = ()

    def observe(self, name: str, x: Tensor) -> Tensor:
        """Show a step of the attention to every observer; return it as they leave it."""
        for observer in self.observers:
            x = observer(name, x)
        return x

    def forward(self, input: Tensor) -> Tensor:
        """Return x in eval mode or for p = 0, else x times a random mask."""
        if not self.training or self.p == 0:
            return input
        plain = not self.fast or input.device.type != "cpu" or torch.compiler.is_compiling()
        return super().forward(input) if plain else input * dropout_mask(input, self.p)
