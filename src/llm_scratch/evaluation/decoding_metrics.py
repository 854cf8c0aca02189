"""Numbers beside a text that a model wrote, and the tree of what it could have written.

No number says which text is good: greedy text has the lowest perplexity and repeats itself, wild text has all tokens different and no
sense. Side by side with the numbers of real text they say in which direction a way of writing errs.
Proof: tests/evaluation/test_decoding_metrics.py. On the command line: `llm-scratch compare-decoding`.
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

NGRAMS = (1, 2, 3)


@dataclass(frozen=True)
class TextMetrics:
    """What can be counted in a text.

    Attributes:
        perplexity: among how many equally likely tokens the model, as it is and before any sampler, would have been undecided.
        distinct: for n = 1, 2, 3, the share of its runs of n tokens that are not a repetition; 1 is no repetition at all.
        overlap: tokens in its longest run that stands in the training text; None: that text is not known.
    """

    perplexity: float
    distinct: tuple[float, ...]
    overlap: float | None


def perplexity(logprobs: Sequence[float]) -> float:
    """e to the mean surprise of a text's tokens. Log-probabilities in nats; nan for no token."""
    return math.exp(-sum(logprobs) / len(logprobs)) if logprobs else math.nan


def distinct(ids: Ids, n: int) -> float:
    """The share of the runs of n tokens that differ from all before them; nan for a text with none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", https://arxiv.org/abs/1510.03055.
    """
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(runs)) / len(runs) if runs else math.nan


def score(ids: Ids, logprobs: Sequence[float], index: SuffixIndex | None) -> TextMetrics:
    """The numbers of one text.

    Args:
        ids: its tokens, without the prompt and without the end-of-text token.
        logprobs: what the model gave to each token, in nats; the end of the text, if the model chose it, included.
        index: of the training text; None: unknown.
    """
    longest = None if index is None else overlap(index, [ids]).longest
    return TextMetrics(perplexity(logprobs), tuple(distinct(ids, n) for n in NGRAMS), longest)


def score_samples(ids: Sequence[Ids], logprobs: Sequence[Sequence[float]], index: SuffixIndex | None) -> TextMetrics:
    """The numbers of several texts of one method: perplexity over all their tokens, means of the others.

    Args:
        ids, logprobs, index: as `score` takes them, for each text.
    """
    each = [score(text, found, index) for text, found in zip(ids, logprobs, strict=True)]
    shares = [[s.distinct[i] for s in each if not math.isnan(s.distinct[i])] for i in range(len(NGRAMS))]
    means = tuple(sum(found) / len(found) if found else math.nan for found in shares)
    longest = [s.overlap for s in each if s.overlap is not None]
    return TextMetrics(
        perplexity([value for found in logprobs for value in found]), means, sum(longest) / len(longest) if longest else None
    )


def reference_metrics(model: nn.Module, held_out: Ids, index: SuffixIndex, n_tokens: int, samples: int = 32, seed: int = 0) -> TextMetrics:
    """The same numbers of real text that the model has not seen: means over passages of about `n_tokens` tokens.

    Raises:
        UserError: a text without a passage.
    """
    start_id = getattr(model, "start_id", None)
    rows = sample_passages(held_out, samples, n_tokens + 1, start_id, seed)
    losses = [evaluate_tokens(model, row) for row in rows]
    texts = [row[1:].tolist() for row in rows]
    shares = [[share for text in texts if not math.isnan(share := distinct(text, n))] for n in NGRAMS]
    means = tuple(sum(found) / len(found) if found else math.nan for found in shares)
    longest = [int(found.max()) for found in index.matches(texts)]
    mean_nats = sum(loss.nats for loss in losses) / sum(loss.n_tokens for loss in losses)
    return TextMetrics(math.exp(mean_nats), means, sum(longest) / len(longest))


@dataclass(frozen=True)
class Branch:
    """A token that may come next, its probability after what came before, and what may follow it, the likeliest first."""

    id: int
    probability: float
    branches: tuple[Branch, ...] = ()


@torch.no_grad()
def next_token_tree(
    model: nn.Module, tokenizer: Any, prompt: str, widths: Sequence[int] = (5, 4, 2), least: float = 0.01, eot: int | None = None
) -> tuple[Branch, ...]:
    """The likeliest continuations of the next few tokens, by the model's own probabilities.

    Args:
        prompt: as `stream` takes it.
        widths: how many branches at each step at most, from the first on.
        least: branches of a lower probability are left out; the best one never is.
        eot: the token that ends a text; nothing follows it.
    """
    start = encode_prompt(model, tokenizer, prompt)
    check_prompt(model, torch.tensor([start], dtype=torch.long, device=device_of(model)))
    levels: list[list[list[tuple[int, float]]]] = []  # of each step, of each text so far: (token, probability) of its branches
    texts = [start]
    with eval_mode(model):
        for width in widths:
            idx = torch.tensor(texts, device=device_of(model))  # [B, S]
            best = CachedModel(model)(idx)[:, -1, : tokenizer.n_vocab].softmax(-1).topk(min(width, tokenizer.n_vocab))
            levels.append([list(zip(*row)) for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)])
            texts = [[*text, token] for text, branches in zip(texts, levels[-1], strict=True) for token, _ in branches]

    def grow(step: int, number: int) -> tuple[Branch, ...]:
        if step == len(levels):
            return ()
        here = levels[step][number]
        kept = [(i, token, chance) for i, (token, chance) in enumerate(here) if chance >= least or i == 0]
        return tuple(Branch(token, chance, () if token == eot else grow(step + 1, number * len(here) + i)) for i, token, chance in kept)

    return grow(0, 0)
