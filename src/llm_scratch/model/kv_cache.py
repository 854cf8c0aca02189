"""Key/value cache: keep the keys and values of earlier tokens, so that a new token costs one step.

`model.new_cache(batch_size)` creates a cache, the caller passes it to `forward`, and the model
advances it after the last layer. Sequences of different lengths share a cache by left padding.
Tests: tests/model/test_gpt.py, tests/generation/test_cached_model.py (cached and uncached logits
agree).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class KVCache:
    """Keys and values of up to `max_length` tokens in every layer.

    Args:
        shape: (layers, batch B, key/value heads G, maximum tokens S, head size D).
        dtype, device: of the keys and values.
        block: allocate memory for this many tokens at a time; None: for all of them at once.
        value_size: head size of the values, if another than that of the keys.
    Attributes:
        keys, values: for each layer, [B, G, S, D].
        pos: number of cached tokens, padding included.
        left_padding: [B], padded positions before each row's text; None: no padding.
        ids: [B, S], the cached tokens, if set by `generation.cached_model`, which compares them
            with the next text; None: unknown.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        block: int | None = None,
        value_size: int | None = None,
    ) -> None:
        self.device = device
        self.max_length = shape[3]
        self.block = block or shape[3]
        self.pos = 0
        self.left_padding: Tensor | None = None
        self.ids: Tensor | None = None
        sizes = shape[4], shape[4] if value_size is None else value_size
        self.keys, self.values = (
            [torch.zeros(*shape[1:3], 0, size, dtype=dtype, device=device)] * shape[0]
            for size in sizes
        )
        self.grow(min(self.block, self.max_length))

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return len(self.keys[0])

    @property
    def nbytes(self) -> int:
        """Bytes of its memory."""
        return sum(stored.nbytes for stored in (*self.keys, *self.values))

    @property
    def remaining(self) -> int:
        """Number of tokens that still fit."""
        return self.max_length - self.pos

    def append(
        self, layer: int, k: Tensor, v: Tensor, window: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Store k and v [B, G, T, D] of the new tokens; return those of all tokens, [B, G, S, D].

        With a window, only those that a new token attends to, so that the time of a token does not
        grow with the text.

        Raises:
            ValueError: more tokens than fit.
        """
        end = self.pos + k.shape[2]
        if end > self.max_length:
            raise ValueError(
                f"{k.shape[2]} new tokens after {self.pos} do not fit the cache of"
                f" {self.max_length}; pass fewer tokens"
            )
        keys, values = self.keys[layer], self.values[layer]
        if end > keys.shape[2]:
            self.grow(min(-(-end // self.block) * self.block, self.max_length))
            keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.pos : end] = k
        values[:, :, self.pos : end] = v
        start = self._first_in_reach(window)
        return keys[:, :, start:end], values[:, :, start:end]

    def _first_in_reach(self, window: int | None) -> int:
        """First position that the next token attends to; a compiled step keeps all of them."""
        if window is None or torch.compiler.is_exporting():
            return 0
        return max(self.pos - window + 1, 0)

    def positions(self, T: int) -> Tensor:
        """Positions of the T new tokens, from 0: [T], or [B, T] with left padding."""
        positions = torch.arange(self.pos, self.pos + T, device=self.device)  # [T]
        if self.left_padding is None:
            return positions
        return (positions - self.left_padding[:, None]).clamp(min=0)

    def mask(self, T: int, window: int | None = None) -> Tensor | None:
        """Attention mask, True where a new token may attend: [T, S], or [B, 1, T, S] with padding.

        None where no mask is needed: one new token attends to all, and the first tokens are causal.
        S are the positions of what `append` returns for the same window.

        Args:
            T: number of new tokens.
            window: attend only to the last `window` tokens, the new one included; None: to all.
        """
        if window is not None and window >= self.max_length:
            window = None
        first = self.pos == 0 and (window is None or window >= T)
        is_step = T == 1 and (window is None or not torch.compiler.is_exporting())
        if self.left_padding is None and (first or is_step):
            return None
        start = self._first_in_reach(window)
        seen = torch.arange(start, self.pos + T, device=self.device)  # [S]
        new = seen[self.pos - start :, None]
        allowed = seen <= new  # [T, S]
        if window is not None:
            allowed = allowed & (seen > new - window)  # [T, S]
        if self.left_padding is None:
            return allowed  # [T, S]
        text = seen >= self.left_padding[:, None, None, None]
        return allowed & text | (seen == new)  # [B, 1, T, S]

    def advance(self, T: int) -> None:
        """Advance the position by T tokens; called by the model once, after the last layer."""
        self.pos += T

    def rewind(self, pos: int) -> None:
        """Drop every token from `pos` on, such as a rejected draft token."""
        self.pos = min(pos, self.pos)
        self.ids = None if self.ids is None else self.ids[:, : self.pos]

    def select_rows(self, rows: Sequence[int] | Tensor) -> None:
        """Keep these rows, in this order; an index may repeat, to copy a prompt to several samples.

        Afterwards each row has its own memory. Only rows that move are copied, and only their
        filled positions; if the number of rows stays the same and none moves, nothing is copied.
        """
        index = torch.as_tensor(rows, device=self.device)
        B = self.rows
        if len(index) == B:
            moved = (index != torch.arange(B, device=index.device)).nonzero().flatten()
            if not len(moved):
                return
            for stored in (*self.keys, *self.values):
                stored[moved, :, : self.pos] = stored[index[moved], :, : self.pos]
        else:
            self._replace(lambda stored: self._select(stored, index))
        self.left_padding = None if self.left_padding is None else self.left_padding[index]
        self.ids = None if self.ids is None else self.ids[index]

    def drop_padding(self, n: int) -> None:
        """Remove the first n positions, which must be padding in every row; copies the rest."""
        self._replace(lambda stored: stored[:, :, n:].contiguous())
        padding = self._padding() - n
        self.left_padding = padding if padding.any() else None
        self.pos -= n
        self.ids = None if self.ids is None else self.ids[:, n:]

    def _padding(self) -> Tensor:
        """Padded positions before each row: [B]."""
        if self.left_padding is not None:
            return self.left_padding
        return torch.zeros(self.rows, dtype=torch.long, device=self.device)

    def _select(self, stored: Tensor, index: Tensor) -> Tensor:
        """Allocate memory of the same length for these rows and copy the filled positions."""
        new = stored.new_empty(len(index), *stored.shape[1:])
        new[:, :, : self.pos] = stored[index, :, : self.pos]
        return new

    def merge(self, other: KVCache) -> None:
        """Add the rows of another cache of the same model, aligned at the last token.

        The rows of the shorter cache get left padding. Each row is copied once, to memory as long
        as that of the longer cache.
        """
        pos = max(self.pos, other.pos)
        shift, other_shift = pos - self.pos, pos - other.pos

        def merged(stored: Tensor, added: Tensor) -> Tensor:
            B, G, size, D = stored.shape
            new = stored.new_zeros(B + len(added), G, max(size, added.shape[2]), D)
            new[:B, :, shift:pos] = stored[:, :, : self.pos]
            new[B:, :, other_shift:pos] = added[:, :, : other.pos]
            return new

        padding = torch.cat([self._padding() + shift, other._padding() + other_shift])
        self.left_padding = padding if padding.any() else None
        others = iter([*other.keys, *other.values])
        self._replace(lambda stored: merged(stored, next(others)))
        self.pos = pos
        self.ids = None

    def grow(self, tokens: int) -> None:
        """Enlarge the memory to `tokens` tokens; the contents stay."""

        def grown(stored: Tensor) -> Tensor:
            B, G, S, D = stored.shape
            return torch.cat([stored, stored.new_zeros(B, G, tokens - S, D)], 2)

        self._replace(grown)

    def _replace(self, new: Callable[[Tensor], Tensor]) -> None:
        """Replace keys, then values, layer by layer: no more than one layer exists twice."""
        for stored in (self.keys, self.values):
            for layer, tensor in enumerate(stored):
                stored[layer] = new(tensor)
