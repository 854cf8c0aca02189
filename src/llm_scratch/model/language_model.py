"""What every language model offers: logits, hidden states, a key/value cache, a context.

`LanguageModel` is the base class of all architectures. A model of another class, such as one of the
notebooks, is wrapped by `as_language_model` where it enters the package; all other code relies on
this interface.
Tests: tests/model/test_language_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.architectures import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.model.kv_cache import KVCache


class LanguageModel(nn.Module):
    """Base class of language models: token ids [B, T] in, logits of every next token [B, T, V] out.

    A subclass sets the attributes below and defines `hidden`; a model whose cache holds something
    else than keys and values of every head overrides `cache_shape` or `make_cache`.

    Attributes:
        cfg: its settings.
        tok_emb: token embedding.
        trf_blocks: the transformer blocks.
        out_head: hidden states -> logits; the last step.
        start_id: the token that every training row began with, or None; `stream` puts it before
            each prompt.
        has_cache: whether `new_cache` works; False only for wrapped models.
        has_hidden: whether `hidden` returns hidden states; else it returns logits, and the head is
            the identity. False only for wrapped models.
        has_static_steps: whether every decoding step is the same operations on keys and values, so
            that it can be compiled. Which experts of a mixture run depends on the token.
    """

    cfg: ModelConfig
    tok_emb: nn.Embedding
    trf_blocks: nn.Sequential
    out_head: nn.Module
    start_id: int | None = None
    has_cache = True
    has_hidden = True
    has_static_steps = True

    def forward(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V]; with a cache, `in_idx` holds the new tokens only.

        Raises:
            ValueError: more tokens than context_length.
        """
        return self.logits(self.hidden(in_idx, cache))  # [B, T, V]

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states -> logits, [..., C] -> [..., V]; a family that limits them overrides it."""
        return self.out_head(hidden)

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C].

        Generation needs the logits of the last position only. The head, the largest matrix of a
        small model, then multiplies one row.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `hidden`")

    @property
    def context_length(self) -> int | None:
        """Longest sequence; None without a limit."""
        return self.cfg.context_length

    @property
    def vocab_size(self) -> int | None:
        """Number of tokens; None if unknown."""
        return self.cfg.vocab_size

    @property
    def emb_dim(self) -> int:
        """Width of the hidden states; 0 if unknown."""
        return self.cfg.emb_dim

    @property
    def head_is_tied(self) -> bool:
        """Whether the output head and the token embedding are the same matrix."""
        return isinstance(self.out_head, nn.Linear) and self.out_head.weight is self.tok_emb.weight

    def positions(self, in_idx: Tensor, cache: KVCache | None) -> Tensor:
        """Positions of new tokens [B, T], from 0: [T], or [B, T] in a cache with left padding.

        Raises:
            ValueError: more tokens than context_length.
        """
        T = in_idx.shape[1]
        end = T if cache is None else cache.pos + T
        if end > self.cfg.context_length:
            raise ValueError(f"{end} tokens do not fit context_length={self.cfg.context_length}")
        return torch.arange(T, device=in_idx.device) if cache is None else cache.positions(T)

    def cache_shape(self, batch_size: int) -> tuple[int, int, int, int, int]:
        """Shape of the cache for `batch_size` full sequences: (layers, B, G, S, D)."""
        cfg = self.cfg
        return cfg.n_layers, batch_size, cfg.n_heads, cfg.context_length, cfg.emb_dim // cfg.n_heads

    def new_cache(self, batch_size: int, block: int | None = 256) -> KVCache:
        """Create an empty cache for `batch_size` sequences; `block` as in `KVCache`."""
        return self.make_cache(batch_size, block, device_of(self))

    def make_cache(self, batch_size: int, block: int | None, device: torch.device) -> KVCache:
        """Create a cache on a device; without contents on "meta", to count its bytes."""
        return KVCache(self.cache_shape(batch_size), self.dtype, device, block)

    def check_cache(self) -> None:
        """Check that the model can use a cache.

        Raises:
            UserError: a wrapped model without one.
        """

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights; float32 if all matrices are quantized."""
        weight = next(self.parameters(), None)
        return torch.float32 if weight is None else weight.dtype

    def cache_bytes(self, tokens: int) -> int:
        """Bytes of the cache of one sequence of `tokens` tokens, at least one."""
        return self.make_cache(1, max(tokens, 1), torch.device("meta")).nbytes

    def crop_context(self, n: int) -> None:
        """Shorten the context to its first `n` positions.

        Raises:
            ValueError: it is shorter already.
        """
        if n > self.cfg.context_length:
            raise ValueError(f"context_length={self.cfg.context_length} cannot be extended to {n}")
        self.cfg = replace(self.cfg, context_length=n)


class WrappedModel(LanguageModel):
    """A model `(ids [B, T]) -> logits [B, T, V]` of another class as a `LanguageModel`.

    It has what the model has: a cache if there is `new_cache`, hidden states if there are `hidden`
    and `out_head`, settings if there is `cfg`, else sizes from the notebooks' embeddings.

    Args:
        model: any module; changes to it are seen here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.start_id = getattr(model, "start_id", None)
        self.has_cache = hasattr(model, "new_cache")
        self.has_hidden = hasattr(model, "hidden") and hasattr(model, "out_head")
        parts = {
            "tok_emb": getattr(model, "tok_emb", None),
            "trf_blocks": getattr(model, "trf_blocks", nn.Sequential()),
            "out_head": self.model.out_head if self.has_hidden else nn.Identity(),
        }
        vars(self).update(parts)  # not registered as submodules: they are those of `model`

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states, or logits if the model gives only these."""
        read = self.model.hidden if self.has_hidden else self.model
        return read(in_idx) if cache is None else read(in_idx, cache)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's own `cfg`; {} without one."""
        return getattr(self.model, "cfg", {})

    @property
    def context_length(self) -> int | None:
        """Longest sequence, from `cfg` or the position embedding; None without a limit."""
        if "context_length" in self.settings:
            return int(self.settings["context_length"])
        table = getattr(self.model, "pos_emb", None)
        return None if table is None else len(table.weight)

    @property
    def vocab_size(self) -> int | None:
        """Number of tokens, from the token embedding; None without one."""
        return None if self.tok_emb is None else len(self.tok_emb.weight)

    @property
    def emb_dim(self) -> int:
        """Width, from `cfg`; 0 without one."""
        return int(self.settings.get("emb_dim", 0))

    def check_cache(self) -> None:
        """Check that the model has a cache.

        Raises:
            UserError: it has none.
        """
        if not self.has_cache:
            raise UserError(
                f"cache: {type(self.model).__name__} does not support one; leave it out"
            )

    def new_cache(self, batch_size: int, block: int | None = 256) -> KVCache:
        """The model's own cache; errors as in `check_cache`."""
        self.check_cache()
        return self.model.new_cache(batch_size)

    def cache_bytes(self, tokens: int) -> int:
        """0: unknown."""
        return 0


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's weights; the CPU for a model without weights."""
    weights = chain(model.parameters(), model.buffers())
    return next((weight.device for weight in weights), torch.device("cpu"))


def as_language_model(model: nn.Module) -> LanguageModel:
    """A model as a `LanguageModel`: itself, or wrapped if it is of another class."""
    return model if isinstance(model, LanguageModel) else WrappedModel(model)
