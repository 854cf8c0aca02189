"""Metrics of generated text: perplexity, distinct n-grams, overlap with the training text.

Also trees of likely next tokens.

No single metric tells which text is good: greedy text has the lowest perplexity and repeats itself,
text at a high temperature has distinct tokens and makes no sense. Compared with the metrics of real
text they show in which direction a decoding strategy errs.
Tests: tests/evaluation/test_decoding_metrics.py.
Command line: `llm-scratch compare-decoding`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llm_scratch.evaluation.loss import evaluate_tokens
from llm_scratch.evaluation.memorization import Ids, SuffixIndex, overlap, sample_passages
from llm_scratch.generation.cached_model import CachedModel, check_prompt
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.model.introspection import device_of, eval_mode
from llm_scratch.model.language_model import as_language_model

NGRAMS = (1, 2, 3)


@dataclass(frozen=True)
class TextMetrics:
    """Metrics of a text.

    Attributes:
        perplexity: of the text under the unmodified model, before any sampler.
        distinct: for n = 1, 2, 3, the share of n-grams that do not repeat an earlier one; 1 means
            no repetition.
        overlap: tokens in the longest run that also occurs in the training text; None if that text
            is unknown.
    """

    perplexity: float
    distinct: tuple[float, ...]
    overlap: float | None


def perplexity(logprobs: Sequence[float]) -> float:
    """Perplexity from log-probabilities in nats; nan without a token."""
    return math.exp(-sum(logprobs) / len(logprobs)) if logprobs else math.nan


def distinct(ids: Ids, n: int) -> float:
    """The share of n-grams that are distinct; nan for a text without any.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models", https://arxiv.org/abs/1510.03055.
    """
    ngrams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def score(ids: Ids, logprobs: Sequence[float], index: SuffixIndex | None) -> TextMetrics:
    """The metrics of one text.

    Args:
        ids: its tokens, without the prompt and without the end-of-text token.
        logprobs: of each token under the model, in nats; with the end of the text, if the model
            chose it.
        index: of the training text; None if unknown.
    """
    longest = None if index is None else overlap(index, [ids]).longest
    return TextMetrics(perplexity(logprobs), tuple(distinct(ids, n) for n in NGRAMS), longest)


def score_samples(
    ids: Sequence[Ids], logprobs: Sequence[Sequence[float]], index: SuffixIndex | None
) -> TextMetrics:
    """The metrics of several texts: perplexity over all their tokens, means of the others.

    Args:
        ids, logprobs, index: as for `score`, for each text.
    """
    metrics = [score(text, values, index) for text, values in zip(ids, logprobs, strict=True)]
    means = _means([m.distinct for m in metrics])
    longest = [m.overlap for m in metrics if m.overlap is not None]
    all_logprobs = [value for values in logprobs for value in values]
    return TextMetrics(
        perplexity(all_logprobs), means, sum(longest) / len(longest) if longest else None
    )


def _means(shares: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The mean over texts for each n, without texts that have no n-gram; nan if none has."""
    known = [[row[i] for row in shares if not math.isnan(row[i])] for i in range(len(NGRAMS))]
    return tuple(sum(values) / len(values) if values else math.nan for values in known)


def reference_metrics(
    model: nn.Module,
    validation: Ids,
    index: SuffixIndex,
    n_tokens: int,
    samples: int = 32,
    seed: int = 0,
) -> TextMetrics:
    """The metrics of real text that the model was not trained on: means over passages.

    Args:
        model: as `evaluate_tokens` takes it.
        validation: the validation text.
        index: of the training text.
        n_tokens: of a passage.
        samples: largest number of passages.
        seed: of their selection.
    Raises:
        UserError: the text has no passage.
    """
    start_id = as_language_model(model).start_id
    rows = sample_passages(validation, samples, n_tokens + 1, start_id, seed)
    losses = [evaluate_tokens(model, row) for row in rows]
    texts = [row[1:].tolist() for row in rows]
    means = _means([tuple(distinct(text, n) for n in NGRAMS) for text in texts])
    longest = [int(lengths.max()) for lengths in index.matches(texts)]
    mean_nats = sum(loss.nats for loss in losses) / sum(loss.n_tokens for loss in losses)
    return TextMetrics(math.exp(mean_nats), means, sum(longest) / len(longest))


@dataclass(frozen=True)
class Branch:
    """A possible next token with its probability and its continuations, the likeliest first."""

    id: int
    probability: float
    branches: tuple[Branch, ...] = ()


@torch.no_grad()
def next_token_tree(
    model: nn.Module,
    tokenizer: Any,
    prompt: str,
    widths: Sequence[int] = (5, 4, 2),
    min_probability: float = 0.01,
    eot: int | None = None,
) -> tuple[Branch, ...]:
    """The most likely continuations of the next few tokens, by the unmodified model.

    Args:
        model: as `stream` takes it.
        tokenizer: of the model.
        prompt: as `stream` takes it.
        widths: the largest number of branches at each step, from the first on.
        min_probability: less likely branches are left out, except the best one.
        eot: the end-of-text token; nothing follows it.
    """
    start = encode_prompt(model, tokenizer, prompt)
    check_prompt(model, torch.tensor([start], dtype=torch.long, device=device_of(model)))
    # for each step and text so far: (token, probability) of its branches
    levels: list[list[list[tuple[int, float]]]] = []
    texts = [start]
    with eval_mode(model):
        for width in widths:
            idx = torch.tensor(texts, device=device_of(model))  # [B, S]
            best = (
                CachedModel(model)(idx)[:, -1, : tokenizer.n_vocab]
                .softmax(-1)
                .topk(min(width, tokenizer.n_vocab))
            )
            levels.append(
                [
                    list(zip(*row))
                    for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
            )
            texts = [
                [*text, token]
                for text, branches in zip(texts, levels[-1], strict=True)
                for token, _ in branches
            ]

    def grow(step: int, number: int) -> tuple[Branch, ...]:
        if step == len(levels):
            return ()
        branches = levels[step][number]
        kept = [
            (i, token, chance)
            for i, (token, chance) in enumerate(branches)
            if chance >= min_probability or i == 0
        ]
        return tuple(
            Branch(
                token, chance, () if token == eot else grow(step + 1, number * len(branches) + i)
            )
            for i, token, chance in kept
        )

    return grow(0, 0)
