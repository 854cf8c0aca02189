"""Check that the caches of all texts fit into memory, before the first token.

Tests: tests/generation/test_memory_check.py.
"""

from __future__ import annotations

from torch import nn

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.formatting import format_bytes
from llm_scratch.hardware.memory import free_memory
from llm_scratch.model.language_model import as_language_model, device_of

ROW_BYTES = 12 * 1024
"""Least memory of a text besides its cache and logits: its random generator and its decoder."""


def check_rows(model: nn.Module, rows: int, tokens: int) -> None:
    """Check that `rows` texts, with their keys, values and logits, fit into the free memory.

    Args:
        model: checked if it is a `LanguageModel`.
        rows: number of texts that are generated at once.
        tokens: length of each, with its prompt.
    Raises:
        UserError: they do not; names the bytes and how many texts fit (exit code 6).
    """
    model = as_language_model(model)
    free = free_memory(device_of(model))
    cache = model.cache_bytes(tokens)
    if not cache or free is None:
        return
    row = ROW_BYTES + cache + 4 * (model.vocab_size or 0)
    if rows * row > free:
        raise UserError(
            f"memory: {rows:,} texts at once need at least {format_bytes(rows * row)}, and"
            f" {format_bytes(free)} are free; give --samples {max(1, free // (2 * row))} or fewer,"
            " or fewer --max-tokens",
            RESOURCES,
        )
