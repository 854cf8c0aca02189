"""A model with a key/value cache, so that each token is read once; used by all strategies.

`CachedModel` is called with the whole text each time and computes only the new tokens. When the
text outgrows the context, the oldest token is dropped at each step, every position shifts by one,
and the window is read again. Rows of different lengths are padded on the left with `PAD`:
`pad_left([[1, 2, 3], [4]])`.
Tests: tests/generation/test_cached_model.py (cached and uncached logits agree).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.model.introspection import check_ids, context_length, device_of, eval_mode
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import as_language_model
from llm_scratch.ranges import check

PAD = -1  # in a batch of ids: left padding before a shorter row
NO_CHOICE = -2
"""Chosen in place of a token if every token is excluded; the text ends there."""


def pad_left(rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Batch texts of different lengths, with padding before the shorter ones. -> [B, T]."""
    longest = max(map(len, rows), default=0)
    padded = [[PAD] * (longest - len(row)) + list(row) for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)


class CachedModel:
    """Computes the logits of the next token after a text.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`. A `LanguageModel` uses a cache, and its output
            head computes only the requested positions.
        context_size: maximum number of tokens that the model reads; None, or above its context
            length: the context length.
        prefill_chunk: read a long prompt in chunks of this many tokens, to save memory; None: at
            once.
    Attributes:
        size: maximum number of tokens that the model reads, or None.
        cache: created with the first text, or passed to `append`.
    Raises:
        UserError: context_size or prefill_chunk below 1.
    """

    def __init__(
        self, model: nn.Module, context_size: int | None = None, prefill_chunk: int | None = None
    ) -> None:
        for name, value in (("context_size", context_size), ("prefill_chunk", prefill_chunk)):
            check(name, value)
        self.model = as_language_model(model)
        self.chunk = prefill_chunk
        self.size = min(
            (size for size in (context_size, context_length(model)) if size is not None),
            default=None,
        )
        self.cache: KVCache | None = None
        self._checked = False

    def __call__(self, idx: Tensor, n: int = 1) -> Tensor:
        """Logits after the last n tokens of idx [B, S], float32 [B, n, V]; n fits the window."""
        window = idx if self.size is None else idx[:, -self.size :]
        if not self.model.has_cache:
            return self._check_once(self._without_cache(window, n))
        return self.logits(self._new(window, idx.shape[1])[:, -n:])

    def hidden(self, idx: Tensor) -> Tensor:
        """Hidden states of the tokens of idx [B, S] that are not cached yet: [B, T, C]."""
        window = idx if self.size is None else idx[:, -self.size :]
        return self._new(window, idx.shape[1])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states: [..., C] -> [..., V], in float32."""
        return self._check_once(self.model.logits(hidden).float())

    def _check_once(self, logits: Tensor) -> Tensor:
        """Check the first logits of a text only: each check makes a GPU synchronize."""
        if not self._checked:
            check_logits(logits)
            self._checked = True
        return logits

    def select_rows(self, rows: Sequence[int] | Tensor) -> None:
        """Continue with these rows, in this order; an index may repeat."""
        if self.cache is not None:
            self.cache.select_rows(rows)

    def append(self, cache: KVCache, idx: Tensor) -> None:
        """Use a cache of `model.new_cache`; what it shares with idx [B, S] is not read again.

        Raises:
            UserError: the model has no cache.
            ValueError: the cache has another number of rows.
        """
        self.model.check_cache()
        if len(idx) != cache.rows:
            raise ValueError(
                f"cache: has {cache.rows} rows, the text {len(idx)};"
                f" create it with new_cache({len(idx)})"
            )
        self.cache = cache
        self.size = cache.max_length if self.size is None else min(self.size, cache.max_length)
        self.sync_to(idx)

    def sync_to(self, idx: Tensor) -> None:
        """Keep only the cached tokens that are a prefix of idx [B, S], without its last token."""
        if self.cache is None:
            return
        cached = idx[:, :0] if self.cache.ids is None else self.cache.ids[:, : self.cache.pos]
        overlap = min(cached.shape[1], idx.shape[1])
        n_equal = (cached[:, :overlap] == idx[:, :overlap]).all(0).long().cumprod(0).sum()
        self.rewind(min(int(n_equal), idx.shape[1] - 1))  # the last token is read for its logits
        self.cache.left_padding = _padding(idx)

    def rewind(self, length: int) -> None:
        """Drop the cached tokens from position `length` on."""
        if self.cache is not None:
            self.cache.rewind(length)

    def _new(self, window: Tensor, length: int) -> Tensor:
        """Hidden states of the tokens of the window that are not cached."""
        cache = self.cache
        if cache is None:
            self.cache = cache = self.model.new_cache(len(window))
        if length > window.shape[1]:
            cache.rewind(0)
        if not cache.pos:
            cache.left_padding = _padding(window)
        new = window[:, cache.pos :]
        if cache.left_padding is not None:
            new = new.clamp(min=0)
        chunks = new.split(self.chunk, dim=1) if self.chunk else [new]
        outputs = [self.model.hidden(chunk, cache) for chunk in chunks]
        cache.ids = window
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _without_cache(self, window: Tensor, n: int) -> Tensor:
        """Read the whole window; padded rows one by one, as the model has no padding."""
        if not (window < 0).any():
            return self.model(window)[:, -n:].float()
        return torch.cat([self.model(row[row >= 0][None])[:, -n:] for row in window]).float()


def _padding(idx: Tensor) -> Tensor | None:
    """Number of padded positions before each row of idx [B, S]: [B]; None without padding."""
    padding = (idx < 0).sum(1)
    return padding if padding.any() else None


def check_logits(logits: Tensor) -> None:
    """Check that logits are not NaN or +inf; -inf marks an excluded token.

    Raises:
        UserError: they are, from weights that are damaged or too large (exit code 4).
    """
    if not (logits < float("inf")).all():
        raise UserError(
            "the model's logits are not finite: its training diverged, or its weights are damaged; "
            "use an earlier checkpoint, or train again with a lower --train.lr",
            CHECKPOINT,
        )


def check_model(model: nn.Module) -> None:
    """Check that the logits after one token are finite: a cheap test of the weights.

    Raises:
        UserError: they are not finite (exit code 4).
    """
    with eval_mode(model), torch.inference_mode():
        check_logits(model(torch.zeros(1, 1, dtype=torch.long, device=device_of(model))))


def check_prompt(model: nn.Module, idx: Tensor) -> None:
    """Check that a model can continue a batch of prompts.

    Raises:
        ValueError: not [B, T].
        UserError: a row without a token, padding after a token, or an id outside the vocabulary
            (exit code 3).
    """
    if idx.dim() != 2:
        raise ValueError(f"idx is {tuple(idx.shape)}; expected (B, T)")
    if not idx.numel() or (idx[:, -1] < 0).any():
        raise UserError("the prompt is empty; pass at least one word", DATA)
    is_padding = idx == PAD
    if (is_padding[:, 1:] & ~is_padding[:, :-1]).any():
        raise UserError("the prompts have padding after a token; pad them with pad_left", DATA)
    check_ids(model, idx[~is_padding])
