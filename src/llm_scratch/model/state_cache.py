"""Cache of models with layers that keep a state of fixed size instead of all keys and values.

A state summarizes a whole text, so no token can be removed from it. Going back to an earlier token
therefore starts from the beginning (`rewind`): correct, but as slow as without a cache.
Tests: tests/model/test_state_cache.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llm_scratch.model.kv_cache import KVCache


class StateCache(KVCache):
    """A `KVCache` for the attention layers, and states of fixed size for the others.

    Args:
        shape: as in `KVCache`, for the attention layers only.
        states: for each other layer, its tensors at the beginning of a text, [B, ...].
        dtype, device, block: as in `KVCache`.
    Attributes:
        states: for each such layer, its tensors now; at least one layer has some.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int, int],
        states: list[list[Tensor]],
        dtype: torch.dtype,
        device: torch.device,
        block: int | None = None,
    ) -> None:
        super().__init__(shape, dtype, device, block)
        self.states = states

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return len(self.states[0][0])

    @property
    def nbytes(self) -> int:
        """Bytes of its memory."""
        return super().nbytes + sum(state.nbytes for layer in self.states for state in layer)

    def text(self, T: int) -> Tensor | None:
        """Which of the T new tokens are not padding: [B, T]; None: all."""
        if self.left_padding is None:
            return None
        positions = torch.arange(self.pos, self.pos + T, device=self.device)
        return positions >= self.left_padding[:, None]

    def rewind(self, pos: int) -> None:
        """Drop every token from `pos` on; if there are such tokens, all of them."""
        if pos < self.pos:
            pos = 0
            self._replace_states(torch.zeros_like)
        super().rewind(pos)

    def select_rows(self, rows: Sequence[int] | Tensor) -> None:
        """Keep these rows, in this order; see `KVCache.select_rows`."""
        index = torch.as_tensor(rows, device=self.device)
        super().select_rows(index)
        self._replace_states(lambda state: state[index])

    def merge(self, other: KVCache) -> None:
        """Add the rows of another cache of the same model; see `KVCache.merge`."""
        super().merge(other)
        assert isinstance(other, StateCache)
        others = iter([state for layer in other.states for state in layer])
        self._replace_states(lambda state: torch.cat([state, next(others)]))

    def _replace_states(self, new: Callable[[Tensor], Tensor]) -> None:
        self.states = [[new(state) for state in layer] for layer in self.states]
