"""Contrastive search: the likeliest token that is not what the text says already.

A model that loops makes the same thoughts again: its hidden vectors of the new tokens point where
earlier ones did. Among the k likeliest tokens this search takes the one whose vector is least like
any before it, weighed against its probability. No chance is needed. Proof:
tests/generation/test_contrastive.py (equal to the formula without cache).
Source: Su et al. 2022, "A Contrastive Framework for Neural Text Generation",
https://arxiv.org/abs/2202.06417, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import CachedModel
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import eval_mode
from llm_scratch.ranges import check


def contrastive_scores(probas: Tensor, hidden: Tensor, past: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) p - alpha (the largest cosine between a candidate's vector and any before it).

    Args:
        probas: [k], the model's probability of each candidate.
        hidden: [k, C], what the model makes of each candidate.
        past: [S, C], what it made of the text so far.
    Returns:
        [k].
    """
    likeness = F.normalize(hidden, dim=-1) @ F.normalize(past, dim=-1).T
    return (1 - alpha) * probas - alpha * likeness.amax(-1)


@torch.no_grad()
def contrastive(
    model: nn.Module,
    idx: Tensor,
    *,
    k: int = 4,
    alpha: float = 0.6,
    n_vocab: int | None = None,
    context_size: int | None = None,
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
) -> Iterator[Step]:
    """Continue one text, without end. Each step reads the k likeliest tokens as a batch that shares the text's cache.

    Args:
        model: with `hidden`, as every model of the package has.
        idx: [1, T].
        k: how many candidates; 1 is greedy.
        alpha: 0 is greedy, 1 looks at novelty alone; the paper's is 0.6.
        n_vocab: how many tokens the tokenizer has, as in `steps.chooser`.
        context_size, prefill_chunk: as in `Reader`; on_full: as in `steps.steps`.
    Raises:
        UserError: more than one row, k below 1, alpha not in [0, 1], or a model without `hidden`.
    """
    check("candidates", k, "k")
    check("alpha", alpha)
    if len(idx) != 1 or not hasattr(model, "hidden"):
        raise UserError(f"contrastive search takes one text and a model with `hidden`; got {len(idx)} texts, {type(model).__name__}")
    reader = CachedModel(model, context_size, prefill_chunk)
    with eval_mode(model):
        past = reader.hidden(idx)[0]
        logits = reader.logits(past[-1:])  # [B, V]
        while on_full == "slide" or reader.size is None or idx.shape[1] <= reader.size:
            probas, tokens = logits[0, :n_vocab].softmax(-1).topk(min(k, logits[0, :n_vocab].numel()))
            longer = torch.cat([idx.expand(len(tokens), -1), tokens[:, None]], dim=1)
            reader.select_rows([0] * len(tokens))
            hidden = reader.hidden(longer)  # one new vector each; where the window slides, all of it anew
            best = int(contrastive_scores(probas, hidden[:, -1], past, alpha).argmax())
            yield Step(tokens[best : best + 1, None], logits)
            reader.select_rows([best])
            idx = longer[best : best + 1]
            past = hidden[best] if hidden.shape[1] > 1 else torch.cat([past, hidden[best]])
            logits = reader.logits(hidden[best, -1:])  # [B, V]
