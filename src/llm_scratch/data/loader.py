"""Batches of token windows in an order that is a pure function of (seed, step): to resume, ask for the next step.

Proof: tests/data/test_loader.py (each window once an epoch, no state, the notebooks' loader as a special case).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from llm_scratch.data.shards import Tokens, positions_of
from llm_scratch.errors import DATA, UserError
from llm_scratch.model.loss import IGNORE

PAD_MULTIPLE = 16  # rows of documents are as wide as a multiple of it: where a few widths come again, memory that was freed fits again
Order = Literal["shuffled", "documents", "epochs", "in order"]


class TokenLoader:
    """Windows of a token stream, `batch_size` at a time; the target of each token is the one after it.

    Args:
        ids: the stream, [N]: an array, or shards on disk, of which a batch reads only its own places.
        context_length: T, tokens a window.
        batch_size: B, windows a batch.
        seed: of the order.
        order: "shuffled": all windows that fit, side by side. The remainder of fewer than T tokens is left out,
            before the first window or after the last, or in parts of both, drawn each epoch;
            "documents": one document a row, shuffled anew each pass; the row ends with the `eot` after it, and what is left of the row
            is not asked (`IGNORE`); a document longer than T is cut, and a batch is only as wide as its longest row, up to `WIDTH`;
            "epochs": side by side from the start, a ragged last batch dropped, as the notebooks' loader;
            "in order": the same without shuffling or dropping, for evaluation; its last batch may be smaller.
        eot: the token that begins a document, for "documents".
    Raises:
        UserError: not one whole window (or, for "epochs", batch) in the stream.
    """

    def __init__(
        self, ids: Tokens, context_length: int, batch_size: int, seed: int = 0, order: Order = "shuffled", eot: int | None = None
    ) -> None:
        self.ids, self.context_length, self.batch_size, self.seed, self.order = ids, context_length, batch_size, seed, order
        T, last = context_length, len(ids) - 1 - context_length  # last: the latest start of a whole window
        if order == "documents":
            if eot is None:
                raise ValueError('order="documents" needs the token that begins a document; give eot')
            ends_of_text = positions_of(ids, eot)
            self.starts = ends_of_text[:-1]
            self.ends = np.minimum(ends_of_text[1:], self.starts + T)  # the last token of each row
        else:
            self.starts = np.arange(0, last + 1, T)
        needed = batch_size if order == "epochs" else 1
        if len(self.starts) < needed:
            raise UserError(
                f"{len(ids)} tokens hold {len(self.starts)} windows of {T}; {needed} are needed: use more text or a smaller context_length",
                DATA,
            )
        self.whole_window_offsets = False
        self._epoch_starts = lru_cache(maxsize=2)(self._starts_of_epoch)

    def __len__(self) -> int:
        """Batches in one pass: whole ones, and for "in order" the smaller last one too."""
        whole, rest = divmod(len(self.starts), self.batch_size)
        return whole + bool(rest) if self.order == "in order" else max(1, whole)

    @property
    def left_out(self) -> int:
        """Tokens of the stream that are not a target in one epoch; the first token, which has no predecessor, does not count."""
        T = self.context_length
        if self.order == "documents":
            return len(self.ids) - 1 - int((self.ends - self.starts).sum())
        windows = len(self) * self.batch_size if self.order == "epochs" else len(self.starts)
        return len(self.ids) - 1 - windows * T

    def use_whole_window_offsets(self) -> None:
        """Take the "shuffled" rows of older runs, so that they resume exactly: one window fewer an epoch, at an offset of up to T - 1."""
        if self.order == "shuffled" and len(self.starts) > 1:
            self.starts = self.starts[:-1]
            self.whole_window_offsets = True
            self._epoch_starts.cache_clear()

    def _starts_of_epoch(self, epoch: int) -> np.ndarray:
        if self.order == "in order":
            return self.starts
        rng = np.random.default_rng([self.seed, epoch])
        starts = rng.permutation(self.starts)
        if self.whole_window_offsets:
            return starts + rng.integers(self.context_length) if len(starts) > 1 else starts
        if self.order == "shuffled":
            most = self.left_out
            # Drawn from thrice the range and clipped: one epoch in three begins with the first token, one in
            # three ends with the last. A uniform offset would all but never reach the two ends of a text.
            starts = starts + np.clip(rng.integers(-most, 2 * most, endpoint=True), 0, most)
        return starts

    def starts_of(self, step: int) -> np.ndarray:
        """Where the windows of batch `step` begin: [B] places in the stream."""
        if self.order in ("epochs", "in order"):
            epoch, within = divmod(step, len(self))
            return self._epoch_starts(epoch)[within * self.batch_size : (within + 1) * self.batch_size]
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        pairs = [divmod(place, len(self.starts)) for place in places]
        return np.array([self._epoch_starts(epoch)[within] for epoch, within in pairs])

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, [B, T] each, int64.

        Args:
            step: counted from 0.
            rank, world: of `world` processes, the one that takes these rows: together they take each row of the batch once,
                in its order, and none reads what another takes.
        """
        starts = self.starts_of(step)
        mine = slice(rank * len(starts) // world, (rank + 1) * len(starts) // world)
        if self.order == "documents":
            return self._documents(starts, mine)
        windows = starts[mine, None] + np.arange(self.context_length + 1)
        tokens = torch.from_numpy(self.ids[windows].astype(np.int64))  # [B, T + 1]
        return tokens[:, :-1], tokens[:, 1:]

    def _documents(self, starts: np.ndarray, mine: slice) -> tuple[Tensor, Tensor]:
        """Rows that hold one document each, as wide as the longest of the whole batch, up to `WIDTH`: [B, T] each."""
        lengths = self.ends[np.searchsorted(self.starts, starts)] - starts
        places = np.arange(min(self.context_length, -(-lengths.max() // PAD_MULTIPLE) * PAD_MULTIPLE) + 1)
        starts, lengths = starts[mine], lengths[mine]
        windows = starts[:, None] + np.minimum(places, lengths[:, None])
        tokens = torch.from_numpy(self.ids[windows].astype(np.int64))  # [B, T + 1]
        beyond = torch.from_numpy(places[1:] > lengths[:, None])  # [B, T]
        return tokens[:, :-1], tokens[:, 1:].masked_fill(beyond, IGNORE)
