"""What a model says after a text, each token read once: the part that all ways of writing share.

A `Reader` is asked with the whole text each time and reads only what is new; its cache remembers the rest. When the text outgrows the
model's context, the oldest token leaves at each step, every position shifts by one, and the window is read again.
Rows of different lengths stand to the right, with `BLANK` before them: `pad_left([[1, 2, 3], [4]])`.
Proof: tests/generation/test_cached_model.py (cached = uncached for every model, batch, padding, length and chunk).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.model.introspection import check_ids, context_length, device_of, eval_mode
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.ranges import check

PAD = -1  # in a batch of ids: no token here, the row's text begins later
NO_CHOICE = -2
"""As a chosen token: every token is excluded, so that the text ends here."""


def pad_left(rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Texts of different lengths as one batch: blanks before the shorter ones, so that all end together. -> [B, T]."""
    longest = max(map(len, rows), default=0)
    return torch.tensor([[PAD] * (longest - len(row)) + list(row) for row in rows], dtype=torch.long, device=device)


class CachedModel:
    """Gives the scores of every next token after a text.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`. With `new_cache` its cache is used, with `hidden` the head reads only what is asked.
        context_size: most tokens the model is shown; never more than it can see, which is also what None means.
        prefill_chunk: read a long prompt in pieces of this many tokens, which takes less memory; None: at once.
    Attributes:
        size: most tokens the model is shown, or None.
        cache: what it remembers; its own, made with the first text, unless `take` gave it one.
    Raises:
        UserError: context_size or prefill_chunk below 1.
    """

    def __init__(self, model: nn.Module, context_size: int | None = None, prefill_chunk: int | None = None) -> None:
        for name, value in (("context_size", context_size), ("prefill_chunk", prefill_chunk)):
            check(name, value)
        self.model, self.chunk = model, prefill_chunk
        self.size = min((size for size in (context_size, context_length(model)) if size is not None), default=None)
        self.cache: KVCache | None = None
        self._checked = False

    def __call__(self, idx: Tensor, n: int = 1) -> Tensor:
        """Scores after each of the last n tokens of idx [B, S]: [B, n, V], in float32. All n are to be in the window."""
        window = idx if self.size is None else idx[:, -self.size :]
        if not hasattr(self.model, "new_cache"):
            return self._check_once(self._without_cache(window, n))
        if not hasattr(self.model, "hidden"):
            return self._check_once(self._new(window, idx.shape[1], self.model)[:, -n:].float())
        return self.logits(self._new(window, idx.shape[1], self.model.hidden)[:, -n:])  # type: ignore[arg-type]

    def hidden(self, idx: Tensor) -> Tensor:
        """What the model has made of the tokens of idx [B, S] that it had not read: [B, T, C]."""
        window = idx if self.size is None else idx[:, -self.size :]
        return self._new(window, idx.shape[1], self.model.hidden)  # type: ignore[arg-type]

    def logits(self, hidden: Tensor) -> Tensor:
        """The scores of the next token, of what `hidden` gave: [..., C] -> [..., V], in float32."""
        return self._check_once(self.model.out_head(hidden).float())  # type: ignore[operator]

    def _check_once(self, logits: Tensor) -> Tensor:
        """The logits, of which the first ones of a text are checked; later ones would make a GPU wait at every token."""
        if not self._checked:
            check_logits(logits)
            self._checked = True
        return logits

    def select_rows(self, rows: Sequence[int] | Tensor) -> None:
        """Go on with these rows, in this order; a row may be named twice."""
        if self.cache is not None:
            self.cache.select_rows(rows)

    def append(self, cache: KVCache, idx: Tensor) -> None:
        """Go on with a cache of `model.new_cache`, which may hold a text already: what it shares with idx [B, S] is not read again.

        Raises:
            UserError: a model that keeps none.
            ValueError: the cache is of another number of rows.
        """
        if not hasattr(self.model, "new_cache"):
            raise UserError(f"{type(self.model).__name__} keeps no cache; leave out cache=")
        if len(idx) != (rows := cache.rows):
            raise ValueError(f"the cache is for {rows} rows and the text has {len(idx)}; make it with new_cache({len(idx)})")
        self.cache, self.size = cache, cache.max_length if self.size is None else min(self.size, cache.max_length)
        self.sync_to(idx)

    def sync_to(self, idx: Tensor) -> None:
        """Forget what was read from where it is not the beginning of idx [B, S], and the last token of that, which is to be asked for."""
        if self.cache is None:
            return
        read = idx[:, :0] if self.cache.ids is None else self.cache.ids[:, : self.cache.pos]
        both = min(read.shape[1], idx.shape[1])
        same = (read[:, :both] == idx[:, :both]).all(0).long().cumprod(0).sum()
        self.rewind(min(int(same), idx.shape[1] - 1))
        self.cache.left_padding = _padding(idx)

    def rewind(self, length: int) -> None:
        """Forget what was read from the place `length` on."""
        if self.cache is not None:
            self.cache.rewind(length)

    def _new(self, window: Tensor, length: int, read: Callable[[Tensor, KVCache], Tensor]) -> Tensor:
        """The tokens of the window that are not in the cache, through `read`."""
        cache = self.cache
        if cache is None:
            self.cache = cache = self.model.new_cache(len(window))  # type: ignore[operator]
        if length > window.shape[1]:
            cache.rewind(0)
        if not cache.pos:
            cache.left_padding = _padding(window)
        new = window[:, cache.pos :]
        if cache.left_padding is not None:
            new = new.clamp(min=0)
        parts = [read(part, cache) for part in (new.split(self.chunk, dim=1) if self.chunk else [new])]
        cache.ids = window
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _without_cache(self, window: Tensor, n: int) -> Tensor:
        """The whole window at once; a model that knows no blanks reads each row by itself where there are some."""
        if not (window < 0).any():
            return self.model(window)[:, -n:].float()
        return torch.cat([self.model(row[row >= 0][None])[:, -n:] for row in window]).float()


def _padding(idx: Tensor) -> Tensor | None:
    """How many places before each text of idx [B, S] are blank, [B]; None where none is."""
    blanks = (idx < 0).sum(1)
    return blanks if blanks.any() else None


def check_logits(logits: Tensor) -> None:
    """Refuse logits that are NaN or +inf; -inf is a token that the model excludes.

    Raises:
        UserError: they come from weights that are damaged or too large (exit code 4).
    """
    if not (logits < float("inf")).all():
        raise UserError(
            "the model's logits are not finite: its training diverged, or its weights are damaged; "
            "use an earlier checkpoint, or train again with a lower --train.lr",
            CHECKPOINT,
        )


def check_model(model: nn.Module) -> None:
    """Refuse a model whose logits after one token are not finite; cheap, and finds weights that are too large.

    Raises:
        UserError: they are not (exit code 4).
    """
    with eval_mode(model), torch.inference_mode():
        check_logits(model(torch.zeros(1, 1, dtype=torch.long, device=device_of(model))))


def check_prompt(model: nn.Module, idx: Tensor) -> None:
    """Refuse a batch of prompts that no model can continue.

    Raises:
        ValueError: not [B, T].
        UserError: a row without a token, a blank after a token, an id outside the vocabulary (code 3).
    """
    if idx.dim() != 2:
        raise ValueError(f"idx is {tuple(idx.shape)}; expected (B, T)")
    if not idx.numel() or (idx[:, -1] < 0).any():
        raise UserError("the prompt holds no token; give it at least one word", DATA)
    blank = idx == PAD
    if (blank[:, 1:] & ~blank[:, :-1]).any():
        raise UserError("a blank stands after a token; blanks belong before a text: pad_left puts them there", DATA)
    check_ids(model, idx[~blank])
