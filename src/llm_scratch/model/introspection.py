"""Device, context, vocabulary size and start token of any model; a context manager for eval mode.

Decoding and evaluation use these helpers for the package's models, the notebooks' and yours.
Tests: tests/model/test_introspection.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.model.language_model import as_language_model, device_of

__all__ = [
    "check_ids",
    "context_length",
    "device_of",
    "eval_mode",
    "n_start_tokens",
    "start_id",
    "vocab_size",
]


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


def context_length(model: nn.Module) -> int | None:
    """Longest sequence of the model, from its `cfg` or position embedding; None without a limit."""
    return as_language_model(model).context_length


def vocab_size(model: nn.Module) -> int | None:
    """Vocabulary size of the model; None without a token embedding."""
    return as_language_model(model).vocab_size


def start_id(model: nn.Module) -> int | None:
    """The token that every training row of the model began with; None without one."""
    return as_language_model(model).start_id


def n_start_tokens(model: nn.Module, ids: Sequence[int]) -> int:
    """How many of the first `ids` are not part of the text: 1 for the model's `start_id`, or 0."""
    return int(bool(ids) and ids[0] == start_id(model))


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
            f"token id {outside} is outside the model's vocabulary of {size};"
            " use the tokenizer that the model was trained with",
            DATA,
        )
