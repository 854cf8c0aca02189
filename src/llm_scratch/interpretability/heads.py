"""Attention heads by what they attend to: previous token, first token, duplicates, induction.

A score is the mean attention weight that a head gives to the keys of a rule, from 0 to 1:

    previous    the token before
    first       the first token, where a head rests that has nothing to do
    duplicate   earlier copies of the same token
    induction   the tokens after earlier copies: "... Anna saw ... Anna" -> " saw"

An induction head continues what it has seen before, and is found by reading random tokens twice,
where nothing else helps. `uniform_scores` are those of a head that attends to all tokens equally.
Tests: tests/interpretability/test_heads.py (a model built by hand to have an induction head, and
uniform attention).
Source: Olsson et al. 2022, "In-context Learning and Induction Heads",
https://arxiv.org/abs/2209.11895; Elhage et al. 2021,
https://transformer-circuits.pub/2021/framework/index.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import capture
from llm_scratch.model.introspection import context_length, device_of, vocab_size

SCORES = ("previous", "first", "duplicate", "induction")


class HeadScore(NamedTuple):
    """The score of a head, and that of uniform attention on the same tokens."""

    layer: int
    head: int
    score: float
    uniform: float


def rule_masks(ids: Tensor) -> dict[str, Tensor]:
    """Where each rule attends to, for token ids [B, T]: score -> bool [B, T, T], query by key."""
    T = ids.shape[1]
    query = torch.arange(T, device=ids.device)[:, None]
    key = torch.arange(T, device=ids.device)
    before = (key < query).expand(len(ids), T, T)
    same = (ids[:, :, None] == ids[:, None, :]) & before
    after_same = torch.zeros_like(same)
    after_same[:, :, 1:] = same[:, :, :-1]  # keys one later
    return {
        "previous": (key == query - 1) & before,
        "first": (key == 0) & before,
        "duplicate": same,
        "induction": after_same & before,
    }


def pattern_scores(pattern: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """The scores of attention patterns: [..., B, H, T, T] and ids [B, T] -> score -> [..., H].

    A score is a mean over the queries to which its rule applies; NaN if there are none.
    """
    scores = {}
    for name, mask in rule_masks(ids).items():
        applies = mask.any(-1)  # [B, T]
        attended = (pattern * mask[:, None]).sum(-1)  # [..., B, H, T]
        scores[name] = (attended * applies[:, None]).sum((-3, -1)) / applies.sum()
    return scores


def head_scores(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """The scores of every head of a model on a text: score -> [L, H].

    Args:
        model: a plain model in eval mode.
        ids: [B, T].
    """
    with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
        model(ids)
    return pattern_scores(stack_patterns(acts), ids)


def stack_patterns(acts: Mapping[str, Tensor]) -> Tensor:
    """The captured attention patterns of all layers, [L, B, H, T, T].

    Raises:
        UserError: layers have different numbers of heads.
    """
    patterns = list(acts.values())
    numbers = {pattern.shape[1] for pattern in patterns}
    if len(numbers) > 1:
        raise UserError(
            f"heads: layers have {' or '.join(map(str, sorted(numbers)))} of them, and are compared"
            " only if they have equally many; capture the layers one by one"
        )
    return torch.stack(patterns)


def uniform_scores(ids: Tensor) -> dict[str, float]:
    """The scores of a head that attends to itself and all earlier tokens equally."""
    T = ids.shape[1]
    uniform = torch.ones(T, T, device=ids.device).tril()
    pattern = (uniform / uniform.sum(-1, keepdim=True)).expand(len(ids), 1, T, T)
    return {name: scores.item() for name, scores in pattern_scores(pattern, ids).items()}


def repeated_tokens(model: nn.Module, length: int = 48, rows: int = 8, seed: int = 0) -> Tensor:
    """Random tokens, then the same ones again, to test for induction: [rows, 2 x length].

    At most the model's context.
    """
    length = min(length, (context_length(model) or 2 * length) // 2)
    draw = torch.Generator().manual_seed(seed)
    half = torch.randint(vocab_size(model) or 1, (rows, length), generator=draw)
    return torch.cat([half, half], 1).to(device_of(model))


def top_heads(
    model: nn.Module, ids: Tensor | None = None, repeated: Tensor | None = None
) -> dict[str, list[HeadScore]]:
    """Every head of a model by each score, highest first.

    Args:
        model: a plain model in eval mode.
        ids: [B, T], the text for "previous" and "first"; None: the repeated tokens too.
        repeated: [B, T], for "duplicate" and "induction" (default: `repeated_tokens`).
    """
    repeated = repeated_tokens(model) if repeated is None else repeated
    ids = repeated if ids is None else ids
    ranked = {}
    for name in SCORES:
        text = repeated if name in ("duplicate", "induction") else ids
        scores, uniform = head_scores(model, text)[name], uniform_scores(text)[name]
        rows = [
            HeadScore(layer, head, scores[layer, head].item(), uniform)
            for layer, head in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist()
        ]
        ranked[name] = sorted(rows, key=lambda row: -row.score)
    return ranked


def score_history(
    models: Iterable[tuple[int, nn.Module]], ids: Tensor
) -> dict[str, dict[int, Tensor]]:
    """Head scores over training: when did a head appear?

    Args:
        models: (step, model) of each checkpoint.
        ids: [B, T], such as `repeated_tokens`.
    Returns:
        score -> step -> [L, H].
    """
    history: dict[str, dict[int, Tensor]] = {name: {} for name in SCORES}
    for step, model in models:
        for name, scores in head_scores(model, ids).items():
            history[name][step] = scores
    return history
