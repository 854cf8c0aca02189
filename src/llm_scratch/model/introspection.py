"""Device, context length and vocabulary size of any model, and a context manager for eval mode.

Decoding and evaluation use these helpers for the package's models, the notebooks' and yours. They
need only the notebooks' attributes. Tests: tests/model/test_introspection.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule has its previous mode again."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's weights; the CPU for a model without weights."""
    weights = chain(model.parameters(), model.buffers())
    return next((weight.device for weight in weights), torch.device("cpu"))


def context_length(model: nn.Module) -> int | None:
    """Longest sequence of the model, from its `cfg` or position embedding; None without a limit."""
    if hasattr(model, "cfg"):
        return int(model.cfg["context_length"])  # type: ignore[index]
    if hasattr(model, "pos_emb"):
        return int(model.pos_emb.weight.shape[0])  # type: ignore[union-attr, index]
    return None


def vocab_size(model: nn.Module) -> int | None:
    """Vocabulary size of the model, from its token embedding; None without one."""
    table: Any = getattr(model, "tok_emb", None)
    return None if table is None else getattr(table, "num_embeddings", None) or len(table.weight)


def check_ids(model: nn.Module, ids: Tensor) -> None:
    """Check that every token id has an embedding.

    Raises:
        UserError: an id is outside the vocabulary; names both (exit code 3).
    """
    size = vocab_size(model)
    if size is None or not ids.numel():
        return
    low, high = (int(end) for end in ids.aminmax())
    if low < 0 or high >= size:
        outside = low if low < 0 else high
        raise UserError(
            f"token id {outside} is outside the model's vocabulary of {size}; use the tokenizer that the model was trained with",
            DATA,
        )
