"""Batches of token windows; their order is a function of (seed, step), so resuming needs no state.

Tests: tests/data/test_loader.py (each window once an epoch, no
state, the notebooks' loader as a special case).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from llm_scratch.data.shards import Tokens, positions_of
from llm_scratch.errors import DATA, UserError
from llm_scratch.model.loss import IGNORE

# Row widths of documents are rounded up to a multiple: with few distinct widths, the memory
# allocator can reuse freed blocks.
PAD_MULTIPLE = 16
Order = Literal["shuffled", "documents", "notebook", "sequential"]


class BatchSource(Protocol):
    """Numbered batches to train on: anything with these two methods.

    The same step must always give the same batch, so that a run resumes without a state of its
    data.
    """

    def __len__(self) -> int:
        """Batches per epoch; at least 1."""
        ...

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, [B, T] each, int64; a target `IGNORE` does not count.

        Args:
            step: counted from 0 over all epochs.
            rank, world: return only the rows of this rank, a `world`-th of the batch.
        """
        ...


class TokenLoader:
    """Batches of windows of a token stream; the target of each token is the next token.

    Args:
        ids: the stream, [N]: an array, or shards on disk, of which a batch reads only its windows.
        context_length: T, tokens per window.
        batch_size: B, windows per batch.
        seed: seed of the shuffling.
        order: "shuffled": adjacent windows. The remainder of fewer than T tokens is left out,
            before the first window, after the last, or partly both, drawn each epoch; "documents":
            one document per row, reshuffled each epoch. The row ends with the `eot` after the
            document, and targets beyond it are ignored (`IGNORE`). A document longer than T is
            truncated. A batch is as wide as its longest row, rounded up to `PAD_MULTIPLE`;
            "notebook": adjacent windows from the start, an incomplete last batch dropped, as in the
            notebooks' loader; "sequential": the same without shuffling or dropping; the last batch
            may be smaller.
        eot: the token that begins a document, for "documents".
        start_id: `model.start_id`, the token that each row begins with, in place of the stream's
            own: that one is a target of the row before it (default: rows stay as they are).
        short_row: for "sequential": add the last, shorter window, so that every token but the first
            is a target. Its row is filled up with ignored targets (`IGNORE`).
    Raises:
        UserError: the stream has not one whole window (for "notebook": batch).
    """

    def __init__(
        self,
        ids: Tokens,
        context_length: int,
        batch_size: int,
        seed: int = 0,
        order: Order = "shuffled",
        eot: int | None = None,
        *,
        start_id: int | None = None,
        short_row: bool = False,
    ) -> None:
        self.ids = ids
        self.context_length = context_length
        self.batch_size = batch_size
        self.seed = seed
        self.order = order
        self.start_id = start_id
        self.has_short_rows = short_row or order == "documents"
        T = context_length
        if order == "documents":
            if eot is None:
                raise ValueError('order="documents" needs eot, the token that begins a document')
            ends_of_text = positions_of(ids, eot)
            self.starts = ends_of_text[:-1]
            self.ends = np.minimum(ends_of_text[1:], self.starts + T)  # the last token of each row
        elif short_row:
            self.starts = np.arange(0, len(ids) - 1, T)
            self.ends = np.minimum(len(ids) - 1, self.starts + T)
        else:
            self.starts = np.arange(0, len(ids) - T, T)  # a window takes T + 1 tokens
        needed = batch_size if order == "notebook" else 1
        if len(self.starts) < needed:
            raise UserError(
                f"{len(ids)} tokens hold {len(self.starts)} windows of {T}, {needed} needed;"
                " use more text or a smaller context_length",
                DATA,
            )
        self.whole_window_offsets = False
        self._epoch_starts = lru_cache(maxsize=2)(self._starts_of_epoch)

    def __len__(self) -> int:
        """Batches per epoch: full ones, and for "sequential" the smaller last one too."""
        whole, rest = divmod(len(self.starts), self.batch_size)
        return whole + bool(rest) if self.order == "sequential" else max(1, whole)

    @property
    def left_out(self) -> int:
        """Tokens that are not a target in one epoch, except the first, which has no predecessor."""
        T = self.context_length
        if self.has_short_rows:
            return len(self.ids) - 1 - int((self.ends - self.starts).sum())
        windows = len(self) * self.batch_size if self.order == "notebook" else len(self.starts)
        return len(self.ids) - 1 - windows * T

    def use_whole_window_offsets(self) -> None:
        """Use the "shuffled" rows of older runs, so that they resume exactly.

        An epoch has one window fewer, and all windows share an offset of up to T - 1.
        """
        if self.order == "shuffled" and len(self.starts) > 1:
            self.starts = self.starts[:-1]
            self.whole_window_offsets = True
            self._epoch_starts.cache_clear()

    def _starts_of_epoch(self, epoch: int) -> np.ndarray:
        if self.order == "sequential":
            return self.starts
        rng = np.random.default_rng([self.seed, epoch])
        starts = rng.permutation(self.starts)
        if self.whole_window_offsets:
            return starts + rng.integers(self.context_length) if len(starts) > 1 else starts
        if self.order == "shuffled":
            max_offset = self.left_out
            # Drawn from three times the range and clipped: one epoch in three begins with the first
            # token, one in three ends with the last. A uniform offset would rarely reach either
            # end.
            offset = rng.integers(-max_offset, 2 * max_offset, endpoint=True)
            starts = starts + np.clip(offset, 0, max_offset)
        return starts

    def starts_of(self, step: int) -> np.ndarray:
        """Start positions in the stream of the windows of batch `step`, [B]."""
        if self.order in ("notebook", "sequential"):
            epoch, within = divmod(step, len(self))
            return self._epoch_starts(epoch)[
                within * self.batch_size : (within + 1) * self.batch_size
            ]
        rows = range(step * self.batch_size, (step + 1) * self.batch_size)
        pairs = [divmod(row, len(self.starts)) for row in rows]
        return np.array([self._epoch_starts(epoch)[within] for epoch, within in pairs])

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, [B, T] each, int64.

        Args:
            step: counted from 0.
            rank, world: return only the rows of this rank. The ranks' rows concatenated are the
                batch; no row is read twice.
        """
        starts = self.starts_of(step)
        rank_rows = slice(rank * len(starts) // world, (rank + 1) * len(starts) // world)
        if self.has_short_rows:
            return self._ragged(starts, rank_rows)
        windows = starts[rank_rows, None] + np.arange(self.context_length + 1)
        tokens = self._read(windows)  # [B, T + 1]
        return tokens[:, :-1], tokens[:, 1:]

    def _read(self, positions: np.ndarray) -> Tensor:
        """The tokens at positions of the stream; each row begins with `start_id`, if there is one.

        positions: [B, T + 1]; returns the same shape.
        """
        tokens = torch.from_numpy(self.ids[positions].astype(np.int64))  # [B, T + 1]
        if self.start_id is not None:
            tokens[:, 0] = self.start_id
        return tokens

    def _ragged(self, starts: np.ndarray, rank_rows: slice) -> tuple[Tensor, Tensor]:
        """Rows of different lengths, as wide as the longest of the whole batch: [B, T] each."""
        lengths = self.ends[np.searchsorted(self.starts, starts)] - starts
        width = -(-lengths.max() // PAD_MULTIPLE) * PAD_MULTIPLE
        positions = np.arange(min(self.context_length, width) + 1)
        starts = starts[rank_rows]
        lengths = lengths[rank_rows]
        tokens = self._read(starts[:, None] + np.minimum(positions, lengths[:, None]))  # [B, T + 1]
        beyond = torch.from_numpy(positions[1:] > lengths[:, None])  # [B, T]
        return tokens[:, :-1], tokens[:, 1:].masked_fill(beyond, IGNORE)
