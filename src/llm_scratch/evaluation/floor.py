"""The floor of the loss: the entropy of the text, known for text that a grammar generated.

Tests: tests/evaluation/test_floor.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_scratch.config import RunConfig


@dataclass(frozen=True)
class Floor:
    """The lowest loss that a model can reach on average, in two units.

    Attributes:
        bits_per_byte: entropy of the text.
        nats_per_token: the same for the tokens of the run's tokenizer, to compare with its losses.
    """

    bits_per_byte: float
    nats_per_token: float


def loss_floor(config: RunConfig, rows: Iterable[Mapping[str, Any]]) -> Floor | None:
    """The floor of a run on stories; None for any other text, or before the first evaluation.

    Args:
        config: of the run.
        rows: of its metrics.jsonl; an evaluation has the loss in both units, which gives the bytes
            per token.
    """
    if not config.data.is_stories:
        return None
    nats_per_bit = next((ratio for row in rows if (ratio := _nats_per_bit(row)) is not None), None)
    if nats_per_bit is None:
        return None
    from llm_scratch.data.stories import floor_bits_per_byte

    bits = floor_bits_per_byte()
    return Floor(bits, bits * nats_per_bit)


def _nats_per_bit(row: Mapping[str, Any]) -> float | None:
    """Nats per token over bits per byte of an evaluation; None for any other row."""
    try:
        ratio = float(row["val_loss"]) / float(row["val_bits_per_byte"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return ratio if math.isfinite(ratio) and ratio > 0 else None
