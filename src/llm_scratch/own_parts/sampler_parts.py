"""Check a learner's temperature, top-k and top-p against the package's.

Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llm_scratch.generation import sampling
from llm_scratch.own_parts.verdict import OUTPUT, Verdict, compare

SHAPE = 3, 11
"""[B, V] of the logits."""


def _check(name: str, theirs: Any, values: tuple[float, ...], mistakes: Any) -> Verdict:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(SHAPE, generator=generator)
    tied = logits.clone()
    tied[0, 4:7] = tied[0].topk(2).values[1]  # equal logits at the border of top-k 2
    cases = [(rows, value) for rows in (logits, tied) for value in values]
    ours: Callable[..., Tensor] = getattr(sampling, name)
    return compare(
        name,
        lambda rows, value: {OUTPUT: theirs(rows, value)},
        lambda rows, value: {OUTPUT: ours(rows, value)},
        cases,
        mistakes,
    )


def check_temperature(theirs: Any) -> Verdict:
    """Compare a `temperature(logits, t)`."""
    return _check("temperature", theirs, (0.5, 1.7), TEMPERATURE_MISTAKES)


def check_top_k(theirs: Any) -> Verdict:
    """Compare a `top_k(logits, k)`."""
    return _check("top_k", theirs, (2, 3, 20), TOP_K_MISTAKES)


def check_top_p(theirs: Any) -> Verdict:
    """Compare a `top_p(logits, p)`."""
    return _check("top_p", theirs, (0.3, 0.8, 1.0), TOP_P_MISTAKES)


def _multiplied(logits: Tensor, t: float) -> Tensor:
    """It multiplies by the temperature; divide."""
    return logits * t


def _probabilities(logits: Tensor, t: float) -> Tensor:
    """It gives probabilities; logits are expected, and softmax comes later."""
    return (logits / t).softmax(-1)


def _kept(logits: Tensor, k: int, never: float = -torch.inf) -> Tensor:
    worst = logits.topk(max(1, min(k, logits.shape[-1]))).values[..., -1:]
    return logits.masked_fill(logits < worst, never)


def _zeros(logits: Tensor, k: int) -> Tensor:
    """The other logits are set to 0, which softmax turns into a probability; set them to -inf."""
    return _kept(logits, k, 0.0)


def _one_more(logits: Tensor, k: int) -> Tensor:
    """It keeps k + 1 tokens: off by one."""
    return _kept(logits, k + 1)


def _one_less(logits: Tensor, k: int) -> Tensor:
    """It keeps k - 1 tokens: off by one, or <= where < belongs."""
    best = logits.sort(descending=True).values
    index = min(k, logits.shape[-1]) - 1
    return logits.masked_fill(logits <= best[..., index : index + 1], -torch.inf)


def _of_the_batch(logits: Tensor, k: int) -> Tensor:
    """The first row's smallest kept logit is used for all rows; keep the dimension: [..., -1:]."""
    worst = logits[0].topk(min(k, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < worst, -torch.inf)


def _without_ties(logits: Tensor, k: int) -> Tensor:
    """Of tokens that are equally likely as the last kept one, it drops some; keep them all."""
    values, positions = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, positions, values)


def _worst(logits: Tensor, k: int) -> Tensor:
    """It keeps the least likely tokens."""
    return -_kept(-logits, k)


def _nucleus(
    logits: Tensor, drop_from: Callable[[Tensor], Tensor], descending: bool = True
) -> Tensor:
    ordered, order = logits.sort(descending=descending, stable=True)
    drop = drop_from(ordered.softmax(-1))
    drop[..., 0] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)


def _below(logits: Tensor, p: float) -> Tensor:
    """It drops the token with which the sum reaches p; that one is kept."""
    return _nucleus(logits, lambda share: share.cumsum(-1) > p) if p < 1 else logits


def _least_likely(logits: Tensor, p: float) -> Tensor:
    """It adds up from the least likely token; sort with descending=True."""
    return _nucleus(logits, lambda share: share.cumsum(-1) - share >= p, descending=False)


def _by_probability(logits: Tensor, p: float) -> Tensor:
    """It keeps tokens by their own probability, as min-p does; top-p adds probabilities up."""
    share = logits.softmax(-1)
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), -torch.inf)


TEMPERATURE_MISTAKES = _multiplied, _probabilities
TOP_K_MISTAKES = _zeros, _one_more, _one_less, _of_the_batch, _without_ties, _worst
TOP_P_MISTAKES = _below, _least_likely, _by_probability
