"""How wrong the model was about the next token.

Proof: tests/model/test_loss.py. Lesson: lessons/step4_pretraining.py, section 4.2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # a target that is not asked


def next_token_loss(logits: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """Cross-entropy of the next token: minus the log of the probability that the model gave to what came.

    Args:
        logits: [B, T, V], any float type; computed in float32.
        targets: [B, T] token ids, `IGNORE` where nothing is asked.
        reduction: "mean" over asked tokens, "sum" to add micro-batches exactly, "none" for each token alone.
    Returns:
        Nats: a scalar, or [B, T] with "none" (0 where nothing is asked). A model that spreads evenly scores ln(V): 10.82 for 50257.
    Raises:
        ValueError: `logits` and `targets` disagree on [B, T].
    Source: GPT-2 (Radford et al. 2019) reports exp of this number as perplexity.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} disagree on [B, T]")
    loss = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE, reduction=reduction)
    return loss.view_as(targets) if reduction == "none" else loss
