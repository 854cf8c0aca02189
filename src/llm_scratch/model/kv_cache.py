"""The key/value cache: what earlier tokens offer is computed once and kept, so that a new token costs one step and not all of them.

The model owns nothing of it: it is made by `model.new_cache(batch_size)`, passed in, and moved on by the model at the end of `forward`.
Texts of different lengths share a cache when blanks stand before the shorter ones ("left padding"): `blanks` says how many.
Tests: tests/model/test_gpt.py, tests/generation/test_cached_model.py: cached and uncached logits agree.
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KVCache:
    """Room for the keys and values of at most `context_length` tokens in every layer.

    Args:
        shape: (layers, batch B, key/value heads G, most tokens S, head size D).
        block: take memory for this many tokens at a time, when they come; None: for all of them now.
    Attributes:
        keys, values: of each layer, [B, G, S, D].
        pos: how many tokens are in it, blanks too.
        blanks: [B], how many places before each row's text hold nothing; None: every row is full.
        ids: [B, S], the tokens that were read into it, if the reader told: whoever has the cache next finds what of a text is read already.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device, block: int | None = None) -> None:
        self.max_length, self.block, self.pos = shape[3], block or shape[3], 0
        self.left_padding: Tensor | None = None
        self.ids: Tensor | None = None
        empty = torch.zeros(*shape[1:3], 0, shape[4], dtype=dtype, device=device)
        self.keys, self.values = ([empty] * shape[0] for _ in range(2))
        self.grow(min(self.block, self.max_length))

    @property
    def rows(self) -> int:
        """Texts that are in it side by side."""
        return len(self.keys[0])

    @property
    def remaining(self) -> int:
        """Tokens that still fit."""
        return self.max_length - self.pos

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v [B, G, T, D] of one layer; returns those of all tokens so far, [B, G, S, D].

        Raises:
            ValueError: more tokens than there is room for.
        """
        end = self.pos + k.shape[2]
        if end > self.max_length:
            raise ValueError(f"{k.shape[2]} new tokens after {self.pos} do not fit the cache of {self.max_length}")
        keys, values = self.keys[layer], self.values[layer]
        if end > keys.shape[2]:
            self.grow(min(-(-end // self.block) * self.block, self.max_length))
            keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.pos : end] = k
        values[:, :, self.pos : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def positions(self, T: int) -> Tensor:
        """The place of each new token in its own text, from 0: [T], or [B, T] where rows begin with blanks."""
        places = torch.arange(self.pos, self.pos + T, device=self.keys[0].device)  # [T]
        return places if self.left_padding is None else (places - self.left_padding[:, None]).clamp(min=0)

    def mask(self, T: int) -> Tensor | None:
        """Which of the S seen tokens each of the T new ones may look at, True where it may: [T, S], or [B, 1, T, S] with blanks.

        None where a kernel needs no table: one new token may look at everything, and in a first piece only the future is hidden.
        """
        if self.left_padding is None and (T == 1 or self.pos == 0):
            return None
        seen = torch.arange(self.pos + T, device=self.keys[0].device)  # [S]
        new = seen[self.pos :, None]
        if self.left_padding is None:
            return seen <= new  # [T, S]
        text = seen >= self.left_padding[:, None, None, None]
        return (seen <= new) & text | (seen == new)  # [B, 1, T, S]

    def advance(self, T: int) -> None:
        """Count T tokens as seen; called once by the model, after the last layer."""
        self.pos += T

    def rewind(self, pos: int) -> None:
        """Forget every token from `pos` on: a guess that was wrong costs nothing more."""
        self.pos = min(pos, self.pos)
        self.ids = None if self.ids is None else self.ids[:, : self.pos]

    def select_rows(self, rows: Sequence[int] | Tensor) -> None:
        """Keep these rows, in this order; a row named twice is copied. So one reading of a prompt serves many continuations.

        What beams or samples share is the reading, not the memory: afterwards each row holds its own copy, and goes its own way. A pick
        copies the `pos` places that are filled, 2 layers G D numbers each, of the rows that move; where the number of rows stays and
        none moves, nothing.
        """
        index = torch.as_tensor(rows, device=self.keys[0].device)
        B = self.rows
        if len(index) == B:
            moved = (index != torch.arange(B, device=index.device)).nonzero().flatten()
            if not len(moved):
                return
            for kept in (*self.keys, *self.values):
                kept[moved, :, : self.pos] = kept[index[moved], :, : self.pos]
        else:
            self.keys, self.values = ([self._picked(kept, index) for kept in layers] for layers in (self.keys, self.values))
        self.left_padding = None if self.left_padding is None else self.left_padding[index]
        self.ids = None if self.ids is None else self.ids[index]

    def _picked(self, kept: Tensor, index: Tensor) -> Tensor:
        """Memory of the same length for other rows, with what is filled."""
        new = kept.new_empty(len(index), *kept.shape[1:])
        new[:, :, : self.pos] = kept[index, :, : self.pos]
        return new

    def grow(self, tokens: int) -> None:
        """Memory for `tokens` tokens, more than there is so far; what is in it stays."""
        B, G, S, D = self.keys[0].shape
        more = B, G, tokens - S, D
        self.keys, self.values = ([torch.cat([old, old.new_zeros(more)], 2) for old in layers] for layers in (self.keys, self.values))
