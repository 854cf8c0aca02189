"""Log-likelihood of continuations: how probable a model finds a text after another.

Every multiple-choice and cloze test needs this. A context and its continuation are encoded together
and cut where the context alone ends; a space between them belongs to the continuation, because a
token holds the space before its word. What does not fit the model's context is cut on the left.
Tests: tests/evaluation/test_likelihood.py.
Source: Gao et al. 2021, lm-evaluation-harness, whose conventions these are,
https://github.com/EleutherAI/lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.evaluation.loss import in_float64, rows_at_once
from llm_scratch.model.introspection import (
    check_ids,
    context_length,
    device_of,
    eval_mode,
    start_id,
)
from llm_scratch.tokenizers.special import end_of_text

Row = tuple[list[int], list[int]]
"""Token ids of a context, which has at least one, and of its continuation."""


class Likelihood(NamedTuple):
    """How probable a continuation is."""

    nats: float
    """the natural logarithm of its probability, at most 0"""
    is_greedy: bool
    """whether each of its tokens is the most probable one"""


def encode_pair(model: Any, tokenizer: Any, context: str, continuation: str) -> Row:
    """Encode a context and its continuation.

    The `start_id` of a model comes first, as in training; without one, an empty context is the
    end-of-text token.

    Raises:
        UserError: an empty context for a tokenizer without an end-of-text token (code 3).
    """
    start = start_id(model)
    first = [] if start is None else [start]
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    ids = tokenizer.encode(kept, disallowed_special=())
    whole = tokenizer.encode(kept + continuation, disallowed_special=())
    if not first and not ids:
        if (eot := end_of_text(tokenizer)) is None:
            raise UserError(
                "an empty context needs a token before it, and this tokenizer has no end-of-text"
                " token; give each question a context",
                DATA,
            )
        first = [eot]
    return [*first, *ids], whole[len(ids) :]


def score_continuations(
    model: nn.Module, rows: Sequence[Row], batch_size: int = 16
) -> list[Likelihood]:
    """The log-likelihood of each continuation after its context.

    Args:
        model: as `decode.generate` takes it; in eval mode during the call.
        rows: contexts and continuations. The longest are computed first, so that running out of
            memory shows at once.
        batch_size: rows at once; fewer if their logits would exceed `loss.MAX_LOGITS`.
    Raises:
        UserError: an id outside the vocabulary, an empty continuation (code 3).
    """
    longest = context_length(model)
    cut = [_cut(*row, longest) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -len(cut[i][0]))
    scores: dict[int, Likelihood] = {}
    at = 0
    with eval_mode(model), torch.inference_mode():
        while at < len(order):
            n_rows = rows_at_once(model, len(cut[order[at]][0]), batch_size)
            chosen = order[at : at + n_rows]
            scores |= zip(chosen, _score(model, [cut[i] for i in chosen]))
            at += n_rows
    return [scores[i] for i in range(len(rows))]


def _cut(context: list[int], continuation: list[int], longest: int | None) -> Row:
    """Return (inputs, targets) of a row: its tokens, and those that the last outputs predict."""
    if not context or not continuation:
        raise UserError("a continuation needs at least one token, and a token before it", DATA)
    inputs = [*context, *continuation][:-1]
    kept = inputs if longest is None else inputs[-longest:]
    return kept, continuation[-len(kept) :]


def _score(model: nn.Module, rows: Sequence[Row]) -> list[Likelihood]:
    """Score rows of (inputs, targets) at once, padded on the right, where nothing attends."""
    ids = torch.zeros(len(rows), max(len(inputs) for inputs, _ in rows), dtype=torch.long)  # [B, T]
    for row, (inputs, _) in zip(ids, rows):
        row[: len(inputs)] = torch.tensor(inputs)
    check_ids(model, ids)
    logits = model(ids.to(device_of(model)))  # [B, T, V]
    scores = []
    for of_row, (inputs, targets) in zip(logits, rows):
        used = in_float64(of_row[len(inputs) - len(targets) : len(inputs)])  # [targets, V]
        wanted = torch.tensor(targets, device=used.device)
        nats = used.log_softmax(-1).gather(-1, wanted[:, None]).sum().item()
        scores.append(Likelihood(nats, bool((used.argmax(-1) == wanted).all())))
    return scores
