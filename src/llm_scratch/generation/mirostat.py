"""Mirostat sampling: keep the mean surprise of a text at a target.

Tests: tests/generation/test_mirostat.py (the mean surprise reaches the target).
Source: Basu et al. 2020, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity", https://arxiv.org/abs/2007.14966, section 4 (its simpler form, often called version 2).
"""

from __future__ import annotations

from math import log

from torch import Tensor

from llm_scratch.ranges import check


class Mirostat:
    """Logits processor with state: drops tokens above a surprise bound, adjusted after each token.

    Surprise is -log2 of the probability, in bits: 1 is a coin toss, 10 is one in a thousand. With
    top-k or top-p it varies over a text; here it is controlled, as a thermostat controls a
    temperature.

    Args:
        target: mean bits per token; 3 is plain, 5 lively.
        rate: step size of the bound.
    Attributes:
        bound: [B, 1], maximum bits of the next token; starts at twice the target.
        surprise: [B, V], bits of every token at the last step.
    Raises:
        UserError: target or rate is not above 0.
    """

    def __init__(self, target: float = 5.0, rate: float = 0.1) -> None:
        for name, value in (("mirostat", target), ("mirostat rate", rate)):
            check(name, value)
        self.target, self.rate = target, rate
        self.bound: Tensor | None = None
        self.surprise: Tensor | None = None

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Adjust the bound to the last token of `ids`, then drop tokens above it, but the best."""
        if self.bound is None or self.surprise is None:
            self.bound = logits.new_full((len(logits), 1), 2 * self.target)
        else:
            error = self.surprise.gather(1, ids[:, -1:]) - self.target  # [B, 1]
            self.bound = self.bound - self.rate * error
        self.surprise = logits.log_softmax(-1) / -log(2)
        drop = (self.surprise > self.bound) & (logits < logits.amax(-1, keepdim=True))  # [B, V]
        return logits.masked_fill(drop, float("-inf"))  # [B, V]
