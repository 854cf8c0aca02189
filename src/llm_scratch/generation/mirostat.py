"""Mirostat: a text that stays as surprising as you ask, whether the model is sure or not.

Proof: tests/generation/test_mirostat.py (the mean surprise comes out as asked).
Source: Basu et al. 2020, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity", https://arxiv.org/abs/2007.14966, section 4 (its simpler form, often called version 2).
"""

from __future__ import annotations

from math import log

from torch import Tensor

from llm_scratch.ranges import check


class Mirostat:
    """A bend with a memory: drops the tokens that would surprise too much, and learns the bound from how surprising each choice was.

    Surprise is -log2 of the probability, in bits: 1 is a coin, 10 is one in a thousand. Top-k and
    top-p leave the surprise of a text to chance, and with it how dull or how wild it becomes; here
    it is steered, as a thermostat steers a room.

    Args:
        target: bits a token, on average; 3 is plain, 5 lively.
        rate: how fast the bound follows.
    Attributes:
        bound: [B, 1], most bits that the next token may have; begins at twice the target.
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
        """Learn from the last token of `ids` [B, S], then drop what is above the bound. [B, V] -> [B, V]; the best token always stays."""
        if self.bound is None or self.surprise is None:
            self.bound = logits.new_full((len(logits), 1), 2 * self.target)
        else:
            error = self.surprise.gather(1, ids[:, -1:]) - self.target  # [B, 1]
            self.bound = self.bound - self.rate * error
        self.surprise = logits.log_softmax(-1) / -log(2)
        drop = (self.surprise > self.bound) & (logits < logits.amax(-1, keepdim=True))  # [B, V]
        return logits.masked_fill(drop, float("-inf"))  # [B, V]
