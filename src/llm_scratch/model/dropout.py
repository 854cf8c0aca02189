"""Dropout: while training, set a share of the numbers to 0 and scale the others up, so that no part relies on one other alone.

PyTorch's own draws a 53-bit number for each element, which on a CPU takes an eighth of a training step; `mask` draws 16 bits for each.
Proof: tests/model/test_dropout.py. Gain: `python benchmarks/train.py --parts`.
Source: Srivastava et al. 2014, "Dropout", https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

THRESHOLD_LEVELS = 2**16  # how finely the share is cut: 0.1 is 6554 of them, which is 0.100006


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """0 with probability p (rounded to a 65,536th), else what keeps the mean at 1: 1 / (1 - p). The shape and type of x."""
    dropped = round(p * THRESHOLD_LEVELS)
    if dropped == THRESHOLD_LEVELS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)  # four draws a word, each from -32,768 to 32,767 alike
    kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.ge(draws, dropped - THRESHOLD_LEVELS // 2, out=kept)  # not bools first: two passes less
    return kept.mul_(THRESHOLD_LEVELS / (THRESHOLD_LEVELS - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout`, so that a seed drops what it drops in the notebooks, until `fast` is set. Any shape -> the same shape.

    Attributes:
        fast: draw by `mask` on a CPU; `training.trainee.Trainee` sets it.
    """

    fast = False

    def forward(self, input: Tensor) -> Tensor:
        """x where nothing is dropped, else x times a mask."""
        if not self.training or self.p == 0:
            return input
        plain = not self.fast or input.device.type != "cpu" or torch.compiler.is_compiling()
        return super().forward(input) if plain else input * dropout_mask(input, self.p)
