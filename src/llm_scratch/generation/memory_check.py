"""Check that the caches of all texts fit into memory, before the first token.

Tests: tests/generation/test_memory_check.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.formatting import format_bytes
from llm_scratch.hardware.memory import free_memory
from llm_scratch.model.introspection import context_length, device_of


def check_rows(model: nn.Module, rows: int, tokens: int) -> None:
    """Check that keys, values and logits of `rows` texts fit into the free memory.

    Args:
        model: checked if it has a `cfg`.
        rows: number of texts that are generated at once.
        tokens: length of each, with its prompt.
    Raises:
        UserError: they do not; names the bytes and how many texts fit (exit code 6).
    """
    cfg: Any = getattr(model, "cfg", None)
    free = free_memory(device_of(model))
    if cfg is None or free is None:
        return
    length = min(tokens, context_length(model) or tokens)
    weight = next(model.parameters(), None)
    item = 4 if weight is None else weight.element_size()
    row = 2 * length * cfg["emb_dim"] * cfg["n_layers"] * item + 4 * cfg["vocab_size"]
    if rows * row > free:
        raise UserError(
            f"memory: {rows:,} texts at once need at least {format_bytes(rows * row)}, and {format_bytes(free)} are free; "
            f"give --samples {max(1, free // (2 * row))} or fewer, or fewer --max-tokens",
            RESOURCES,
        )
