"""The key/value cache: what earlier tokens offer is computed once and kept, so that a new token costs one step and not all of them.

The model owns nothing of it: it is made by `model.new_cache(batch_size)`, passed in, and moved on by the model at the end of `forward`.
Proof that cached and uncached logits agree: tests/model/test_gpt.py. Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Room for the keys and values of `context_length` tokens in every layer.

    Args:
        shape: (layers, batch B, key/value heads G, tokens S, head size D).
    Attributes:
        pos: how many tokens are in it.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.pos = 0

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.keys.shape[3] - self.pos

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v [B, G, T, D] of one layer; returns those of all tokens so far, [B, G, S, D].

        Raises:
            ValueError: more tokens than there is room for.
        """
        end = self.pos + k.shape[2]
        if k.shape[2] > self.room:
            raise ValueError(f"{k.shape[2]} new tokens after {self.pos} do not fit the cache of {self.keys.shape[3]}")
        self.keys[layer, :, :, self.pos : end] = k
        self.values[layer, :, :, self.pos : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def mask(self, T: int) -> Tensor:
        """Which of the S seen tokens each of the T new ones may look at: [T, S], True where it may."""
        seen = torch.arange(self.pos + T, device=self.keys.device)  # [S]
        return seen <= seen[self.pos :, None]  # [T, S]

    def advance(self, T: int) -> None:
        """Count T tokens as seen; called once by the model, after the last layer."""
        self.pos += T
