"""Using a model that is not being trained: what fits into it, where it lives, and eval mode for a while.

Decoding and evaluation ask these four questions of any model, ours, the notebooks' or yours; none needs more than the
notebooks' attributes. Proof: tests/model/test_introspection.py.
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
    """Dropout off inside the block; afterwards every part is in the mode it was in, a frozen part too."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; the CPU for a model without weights."""
    return next((weight.device for weight in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def context_length(model: nn.Module) -> int | None:
    """How many tokens the model can see at once, from `model.cfg` or from its position embedding; None: it knows no limit."""
    if hasattr(model, "cfg"):
        return int(model.cfg["context_length"])  # type: ignore[index]
    return int(model.pos_emb.weight.shape[0]) if hasattr(model, "pos_emb") else None  # type: ignore[union-attr, index]


def vocab_size(model: nn.Module) -> int | None:
    """How many tokens the model knows, from its token embedding; None: it has none."""
    table: Any = getattr(model, "tok_emb", None)
    return None if table is None else getattr(table, "num_embeddings", None) or len(table.weight)


def check_ids(model: nn.Module, ids: Tensor) -> None:
    """Refuse token ids that the model has no embedding for.

    Raises:
        UserError: names the id and the size of the vocabulary (code 3).
    """
    size = vocab_size(model)
    if size is None or not ids.numel():
        return
    low, high = (int(end) for end in ids.aminmax())
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise UserError(f"token id {wrong} is outside the model's vocabulary of {size}; use the tokenizer that it was trained with", DATA)
