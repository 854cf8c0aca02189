"""Beam search: keep the most likely partial texts at each step, and return the most likely text.

Greedy decoding may miss a likely text behind an unlikely token; beam search follows `width` partial
texts at once. Its texts are more likely, and for stories often duller.
Tests: tests/generation/test_beam.py (equal to transformers').
Source: Freitag and Al-Onaizan 2017, "Beam Search Strategies for Neural Machine Translation",
https://arxiv.org/abs/1702.01806, section 2; the length penalty as in Wu et al. 2016,
https://arxiv.org/abs/1609.08144, section 7, in the form score / length^penalty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.cached_model import PAD, CachedModel
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import eval_mode
from llm_scratch.ranges import check


class Beam(NamedTuple):
    """One text: its new tokens, and log-probability / length^penalty in nats."""

    ids: list[int]
    score: float


@torch.no_grad()
def beam_search(
    model: nn.Module,
    idx: Tensor,
    *,
    max_new_tokens: int,
    beams: int = 4,
    length_penalty: float = 1.0,
    n_best: int = 1,
    eos_id: int | None = None,
    n_vocab: int | None = None,
    context_size: int | None = None,
    prefill_chunk: int | None = None,
) -> list[Beam]:
    """Search for the most likely continuations of a text; the best first.

    Args:
        idx: [1, T].
        max_new_tokens: maximum number of tokens to add; a text also ends where the context is full.
        beams: number of partial texts, the beam width; 1 is greedy.
        length_penalty: 0 compares log-probabilities, which favors short texts; 1 their mean per
            token; larger values favor longer texts.
        n_best: number of texts to return, at most `beams`.
        eos_id: the token that ends a text.
        n_vocab: tokens of the tokenizer, as in `steps.build_sampler`.
        context_size, prefill_chunk: as in `CachedModel`.
    Raises:
        UserError: more than one row, n_best not from 1 to `beams`,
            or a prompt that is longer than the context (exit code 3).
    """
    _check_arguments(len(idx), max_new_tokens, beams, length_penalty, n_best)
    cached_model = CachedModel(model, context_size, prefill_chunk)
    begin = idx.shape[1]
    last = _max_length(begin, max_new_tokens, cached_model.size)
    scores = torch.zeros(1, device=idx.device)
    ended: list[Beam] = []
    with eval_mode(model):
        for length in range(1, last + 1):
            logprobs = cached_model(idx)[:, -1, :n_vocab].log_softmax(-1) + scores[:, None]
            # twice as many: if all of the first half end, the second half continues
            best = logprobs.flatten().topk(min(2 * beams, logprobs.numel()))
            rows = best.indices // logprobs.shape[1]
            tokens = best.indices % logprobs.shape[1]
            if eos_id is None:
                over = torch.full_like(tokens, length == last, dtype=torch.bool)
            else:
                over = (tokens == eos_id) | (length == last)
            for at in over[:beams].nonzero().flatten().tolist():
                text = [*idx[rows[at], begin:].tolist(), int(tokens[at])]
                ended.append(Beam(text, float(best.values[at]) / length**length_penalty))
            ended = sorted(ended, key=lambda beam: -beam.score)[:beams]
            alive = (~over).nonzero().flatten()[:beams]
            if not len(alive) or (
                len(ended) == beams
                and float(best.values[alive[0]]) / length**length_penalty <= ended[-1].score
            ):
                break
            rows, scores = rows[alive], best.values[alive]
            cached_model.select_rows(rows)
            idx = torch.cat([idx[rows], tokens[alive, None]], dim=1)
    return ended[:n_best]


def _check_arguments(
    n_texts: int, max_new_tokens: int, beams: int, length_penalty: float, n_best: int
) -> None:
    check("beams", beams)
    check("length_penalty", length_penalty)
    check("max_new_tokens", max_new_tokens)
    if n_texts != 1 or not 1 <= n_best <= beams:
        raise UserError(
            "beam search takes one text and 1 <= n_best <= beams;"
            f" got {n_texts} texts, n_best={n_best}, beams={beams}"
        )


def _max_length(prompt_length: int, max_new_tokens: int, context_size: int | None) -> int:
    """Tokens until a text ends, at the latest where the context is full.

    Raises:
        UserError: the prompt is longer than the context (exit code 3).
    """
    if context_size is None:
        return max_new_tokens
    if prompt_length > context_size:
        raise UserError(
            f"the prompt has {prompt_length} tokens and the model sees {context_size};"
            " shorten it, since beam search does not slide the window",
            DATA,
        )
    return min(max_new_tokens, context_size - prompt_length + 1)


@torch.no_grad()
def beam(
    model: nn.Module,
    idx: Tensor,
    *,
    max_new_tokens: int,
    beams: int = 4,
    length_penalty: float = 1.0,
    samples: int = 1,
    eos_id: int | None = None,
    n_vocab: int | None = None,
    prefill_chunk: int | None = None,
) -> Iterator[Step]:
    """Continue one text by beam search: steps of the `samples` most likely texts, the best first.

    The steps come after the search, and their logits from another forward pass. The other arguments
    are those of `beam_search`.

    Args:
        beams: number of partial texts; `samples` if that is more.
        samples: number of texts.
    Yields:
        A `Step` of `samples` rows; `PAD` where a text has ended.
    """
    best = beam_search(
        model,
        idx,
        max_new_tokens=max_new_tokens,
        beams=max(beams, samples),
        length_penalty=length_penalty,
        n_best=samples,
        eos_id=eos_id,
        n_vocab=n_vocab,
        prefill_chunk=prefill_chunk,
    )
    longest = max((len(text.ids) for text in best), default=0)
    padded = [[*text.ids, *[PAD] * (longest - len(text.ids))] for text in best]
    texts = torch.tensor(padded, dtype=torch.long, device=idx.device)
    if longest:
        ids = torch.cat([idx.expand(len(texts), -1), texts[:, :-1].clamp(min=0)], dim=1)
        with eval_mode(model):
            logits = CachedModel(model, prefill_chunk=prefill_chunk)(ids, longest)
        yield from (Step(texts[:, i : i + 1], logits[:, i]) for i in range(longest))
