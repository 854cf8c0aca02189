"""Contrastive search: the paper's formula without a cache, its greedy limits, errors."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation.contrastive import contrastive, contrastive_scores
from llm_scratch.generation.decode import generate
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.lesson_models import DummyGPTModel

V = 13
CFG = {
    "vocab_size": V,
    "context_length": 14,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": True,
}


@pytest.fixture
def model():
    torch.manual_seed(123)
    return GPTModel(CFG)


def plainly(model, row, n, k, alpha):
    """Equation 5 of the paper, token by token: every candidate's whole window is read again."""
    row = list(row)
    for _ in range(n):
        window = row[-CFG["context_length"] :]
        past = model.hidden(torch.tensor([window]))[0]
        probas = model.out_head(past[-1]).softmax(-1)
        scores = {}
        for token in probas.topk(k).indices.tolist():
            vector = model.hidden(torch.tensor([[*row, token][-CFG["context_length"] :]]))[0, -1]
            likeness = max(torch.cosine_similarity(vector, before, dim=0).item() for before in past)
            scores[token] = (1 - alpha) * probas[token].item() - alpha * likeness
        row.append(max(scores, key=scores.get))
    return row


@pytest.mark.parametrize(("k", "alpha", "n"), [(4, 0.6, 9), (3, 0.3, 9), (V, 1.0, 9), (4, 0.6, 15)])
def test_contrastive_ids_equal_the_formula_without_cache(model, k, alpha, n):
    """The last case fills the context and slides."""
    idx = torch.tensor([[3, 1, 4, 1, 5]])
    ours = torch.cat(
        [
            idx,
            *(step.ids for step in islice(contrastive(model, idx, candidates=k, alpha=alpha), n)),
        ],
        1,
    )
    with torch.no_grad():
        assert ours[0].tolist() == plainly(model.eval(), idx[0].tolist(), n, k, alpha)


@pytest.mark.parametrize("ends", [{"candidates": 1}, {"alpha": 0.0}])
def test_contrastive_search_with_one_candidate_or_no_weight_is_greedy(model, ends):
    idx = torch.tensor([[3, 1, 4]])
    ours = torch.cat([idx, *(step.ids for step in islice(contrastive(model, idx, **ends), 14))], 1)
    assert torch.equal(ours, generate(model, idx, 14))


def test_contrastive_search_reads_the_text_once_and_restores_the_mode(model, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: (
            shapes.append(tuple(ids.shape)) or GPTModel.hidden(model, ids, cache)
        ),
    )
    list(islice(contrastive(model, torch.tensor([[3, 1, 4]]), candidates=4), 3))
    assert shapes == [(1, 3), (4, 1), (4, 1), (4, 1)]
    assert model.training


def test_contrastive_search_slides_or_stops_when_the_context_is_full(model):
    long = torch.arange(20)[None] % V
    assert list(contrastive(model, long, context_overflow="stop")) == []
    assert len(list(islice(contrastive(model, long), 3))) == 3
    assert (
        len(list(contrastive(model, torch.tensor([[3, 1, 4]]), context_overflow="stop")))
        == CFG["context_length"] - 3 + 1
    )


def test_contrastive_score_penalizes_similarity():
    hidden = torch.tensor([[1.0, 0], [0, 2.0]])
    scores = contrastive_scores(torch.tensor([0.6, 0.4]), hidden, torch.tensor([[3.0, 0]]), 0.5)
    torch.testing.assert_close(scores, torch.tensor([0.3 - 0.5, 0.2]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"candidates": 0}, "candidates: 0 is out of range"),
        ({"alpha": 1.5}, "alpha: 1.5 is out of range"),
        (
            {"idx": torch.zeros(2, 3, dtype=torch.long)},
            "contrastive search: got .*; pass one text and a model",
        ),
        ({"model": DummyGPTModel(CFG)}, "contrastive search: got .*; pass one text and a model"),
    ],
)
def test_contrastive_search_rejects_invalid_arguments(model, wrong, message):
    with pytest.raises(UserError, match=message):
        next(contrastive(**({"model": model, "idx": torch.tensor([[1]])} | wrong)))
