"""What `llm-scratch inspect` shows of a model on one text, as data.

That is: surprise, logit lens, parts of a logit, heads, an ablation.

Each number comes from a tool of `interpretability`, whose docstring explains it.
Tests: tests/evaluation/test_inspection.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.evaluation.head_skills import check_parts, known_parts
from llm_scratch.evaluation.story_surprise import TokenSurprise, token_surprises
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.heads import HeadScore, top_heads
from llm_scratch.interpretability.lenses import (
    direct_logit_attribution,
    kl_to_final_bits,
    logit_lens,
    surprise_bits,
)
from llm_scratch.interpretability.patching import ablate
from llm_scratch.model.introspection import check_ids, context_length, device_of
from llm_scratch.tokenizers.token_text import token_text

N_TOP = 3
"""Most probable tokens that are shown of a prediction."""


class Weighted(NamedTuple):
    """A token and a share from 0 to 1: its probability, or the attention that it gets."""

    text: str
    share: float


class LensRow(NamedTuple):
    """The prediction after a layer ("embedding", "block 0"); `kl_bits` from the last one."""

    layer: str
    top: tuple[Weighted, ...]
    kl_bits: float


class Contribution(NamedTuple):
    """What a part adds to the logit of the first candidate, less what it adds to the second's.

    `attends` is the token that a head attends to most from the last position; None for other parts.
    """

    part: str
    logits: float
    attends: Weighted | None


class Ablation(NamedTuple):
    """The text and its continuation with and without some parts."""

    parts: str
    before: tuple[Weighted, ...]
    after: tuple[Weighted, ...]
    bits_before: float
    bits_after: float


class Inspection(NamedTuple):
    """What a model computes on a text.

    Attributes:
        surprises: of each token.
        lens: the prediction of the next token after each layer.
        contributions: of each part to the prediction, the largest first.
        heads: score -> the head that has it most.
    """

    surprises: list[TokenSurprise]
    lens: list[LensRow]
    contributions: list[Contribution]
    heads: dict[str, HeadScore]


def inspect_text(model: Any, tokenizer: Any, ids: list[int]) -> Inspection:
    """Inspect a plain model in eval mode on a text of at least one token.

    The text is as from `decode.encode_prompt`.

    Raises:
        UserError: the text is empty or too long, or the model is packed, compiled or quantized.
    """
    row = as_row(model, ids)
    lens = logit_lens(model, row)[:, :, -1:]  # [L + 1, 1, 1, V]
    names = ["embedding", *(f"block {layer}" for layer in range(len(model.trf_blocks)))]
    kls = kl_to_final_bits(lens)[:, 0, 0].tolist()
    layers = [
        LensRow(name, most_probable(logits, tokenizer), kl)
        for name, logits, kl in zip(names, lens[:, 0, 0], kls, strict=True)
    ]
    heads = {
        score: ranked[0]
        for score, ranked in top_heads(model, row if len(ids) > 1 else None).items()
    }
    return Inspection(
        token_surprises(model, tokenizer, ids), layers, contributions(model, tokenizer, row), heads
    )


def as_row(model: nn.Module, ids: list[int]) -> Tensor:
    """The ids as a batch of one row, [1, T], on the model's device."""
    limit = context_length(model)
    if not ids:
        raise UserError("the prompt is empty; give at least one token", DATA)
    if limit is not None and len(ids) > limit:
        raise UserError(
            f"the prompt has {len(ids):,} tokens, and the model reads at most {limit:,};"
            " shorten it",
            DATA,
        )
    row = torch.tensor([ids], device=device_of(model))
    check_ids(model, row)
    return row


def most_probable(logits: Tensor, tokenizer: Any, n: int = N_TOP) -> tuple[Weighted, ...]:
    """The most probable tokens of logits [V]."""
    shares, tokens = logits.float().softmax(-1).topk(min(n, len(logits)))
    return tuple(
        Weighted(token_text(tokenizer, token), share)
        for token, share in zip(tokens.tolist(), shares.tolist(), strict=True)
    )


def contributions(model: Any, tokenizer: Any, row: Tensor) -> list[Contribution]:
    """Why the most probable next token and not the second: parts of the logits' difference."""
    with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
        first, second = model(row)[0, -1].topk(2).indices
    gains = direct_logit_attribution(model, row, torch.full_like(row, first))
    rivals = direct_logit_attribution(model, row, torch.full_like(row, second))
    rows = []
    differences = (gains.values - rivals.values)[:, 0, -1].tolist()
    for part, logits in zip(gains.names, differences, strict=True):
        layer, _, head = part.partition(".")
        attends = None
        if head.isdigit():
            weight, position = acts[f"blocks.{layer}.attn.hook_pattern"][0, int(head), -1].max(-1)
            attends = Weighted(token_text(tokenizer, int(row[0, position])), weight.item())
        rows.append(Contribution(part, logits, attends))
    return sorted(rows, key=lambda contribution: -abs(contribution.logits))


def inspect_ablation(model: Any, tokenizer: Any, ids: list[int], parts: str) -> Ablation:
    """The next token and the surprise of the text with some parts set to zero.

    Args:
        model: a plain model in eval mode.
        tokenizer: its tokenizer.
        ids: as for `inspect_text`.
        parts: names as from `head_skills.known_parts`, with "+" between them.
    Raises:
        UserError: an unknown part, or as `inspect_text`.
    """
    row = as_row(model, ids)
    known = known_parts(model)

    def read() -> tuple[tuple[Weighted, ...], float]:
        with torch.no_grad():
            top = most_probable(model(row)[0, -1], tokenizer)
        return top, surprise_bits(model, row).mean().item() if len(ids) > 1 else math.nan

    before, bits_before = read()
    with ablate(model, *(known[part] for part in check_parts(known, parts).split("+"))):
        after, bits_after = read()
    return Ablation(parts, before, after, bits_before, bits_after)
