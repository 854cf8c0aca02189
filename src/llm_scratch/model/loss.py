"""Cross-entropy loss of the next token.

Tests: tests/model/test_loss.py. Lesson: lessons/step4_pretraining.py, section 4.2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # a target without a loss


def next_token_loss(
    logits: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor:
    """Cross-entropy: minus the log of the probability that the model gives to the next token.

    Args:
        logits: [B, T, V], any float type; computed in float32.
        targets: [B, T] token ids, `IGNORE` for positions without a target.
        reduction: "mean" over the targets, "sum" to add micro-batches exactly, "none" for each
            token's loss.
    Returns:
        Nats: a scalar, or [B, T] with "none" (0 for ignored targets). A uniform prediction has the
        loss ln(V): 10.82 for 50257 tokens.
    Raises:
        ValueError: `logits` and `targets` differ in [B, T].
    Source: GPT-2 (Radford et al. 2019) reports exp of this loss as perplexity.
    """
    if logits.shape[:-1] != targets.shape:
        shapes = f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"{shapes} disagree on [B, T]; pass one target for each position")
    loss = F.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE, reduction=reduction
    )
    return loss.view_as(targets) if reduction == "none" else loss
