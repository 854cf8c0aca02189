"""Contrastive search: the most likely token whose hidden state differs from those of the text.

In a loop the hidden states of new tokens point in the direction of earlier ones. Among the k most
likely tokens this search takes the one with the best balance of probability and difference.
Deterministic.
Tests: tests/generation/test_contrastive.py (equal to the formula without a cache).
Source: Su et al. 2022, "A Contrastive Framework for Neural Text Generation",
https://arxiv.org/abs/2202.06417, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import CachedModel
from llm_scratch.generation.config import ContextOverflow
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import eval_mode
from llm_scratch.model.language_model import as_language_model
from llm_scratch.ranges import check


def contrastive_scores(probas: Tensor, hidden: Tensor, past: Tensor, alpha: float) -> Tensor:
    """Score of each candidate: (1 - alpha) p - alpha (largest cosine to an earlier hidden state).

    Args:
        probas: [k], the model's probability of each candidate.
        hidden: [k, C], the hidden state of each candidate.
        past: [S, C], the hidden states of the text so far.
        alpha: weight of the similarity.
    Returns:
        [k].
    """
    similarity = F.normalize(hidden, dim=-1) @ F.normalize(past, dim=-1).T
    return (1 - alpha) * probas - alpha * similarity.amax(-1)


@torch.no_grad()
def contrastive(
    model: nn.Module,
    idx: Tensor,
    *,
    candidates: int = 4,
    alpha: float = 0.6,
    n_vocab: int | None = None,
    context_size: int | None = None,
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
) -> Iterator[Step]:
    """Continue one text, without end; each step reads the candidates as a batch.

    Args:
        model: with `hidden`, as every model of the package has.
        idx: [1, T].
        candidates: number of most likely tokens to choose from; 1 is greedy.
        alpha: 0 is greedy, 1 uses the difference alone; the paper uses 0.6.
        n_vocab: tokens of the tokenizer, as in `steps.build_sampler`.
        context_size, prefill_chunk: as in `CachedModel`.
        context_overflow: as in `steps.steps`.
    Raises:
        UserError: more than one row, candidates below 1,
            alpha not in [0, 1], or a model without `hidden`.
    """
    check("candidates", candidates)
    check("alpha", alpha)
    if len(idx) != 1 or not as_language_model(model).has_hidden:
        got = f"{len(idx)} texts, {type(model).__name__}"
        raise UserError(f"contrastive search: got {got}; pass one text and a model with `hidden`")
    cached_model = CachedModel(model, context_size, prefill_chunk)
    size = cached_model.size
    with eval_mode(model):
        past = cached_model.hidden(idx)[0]
        logits = cached_model.logits(past[-1:])  # [B, V]
        while context_overflow == "slide" or size is None or idx.shape[1] <= size:
            known = logits[0, :n_vocab]  # [V]
            probas, tokens = known.softmax(-1).topk(min(candidates, known.numel()))
            longer = torch.cat([idx.expand(len(tokens), -1), tokens[:, None]], dim=1)
            cached_model.select_rows([0] * len(tokens))
            # hidden state of the new token; of all tokens if the window slides
            hidden = cached_model.hidden(longer)
            best = int(contrastive_scores(probas, hidden[:, -1], past, alpha).argmax())
            yield Step(tokens[best : best + 1, None], logits)
            cached_model.select_rows([best])
            idx = longer[best : best + 1]
            past = hidden[best] if hidden.shape[1] > 1 else torch.cat([past, hidden[best]])
            logits = cached_model.logits(hidden[best, -1:])  # [B, V]
