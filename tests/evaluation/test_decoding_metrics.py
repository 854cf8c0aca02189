"""Text metrics equal their formulas, and the tree has the model's own probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.evaluation.decoding_metrics import (
    distinct,
    next_token_tree,
    perplexity,
    reference_metrics,
    score,
    score_samples,
)
from llm_scratch.evaluation.loss import evaluate_tokens
from llm_scratch.evaluation.memorization import SuffixIndex
from llm_scratch.generation.decode import stream_chunks
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import CharTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer("adehmnorst ", end_of_text=False)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return GPTModel(
        GPTConfig(
            vocab_size=tokenizer.n_vocab + 3, context_length=32, emb_dim=16, n_heads=2, n_layers=1
        )
    ).eval()


def test_perplexity_equals_that_of_the_loss(model, tokenizer):
    pieces = list(
        stream_chunks(model, tokenizer, "h", seed=1, temperature=1.0, max_new_tokens=20, top=0)
    )
    ids = [*tokenizer.encode("h"), *(piece.id for piece in pieces)]
    n = tokenizer.n_vocab
    model.register_forward_hook(
        lambda _, __, logits: logits.index_fill(-1, torch.arange(n, n + 3), -torch.inf)
    )  # no such tokens
    assert perplexity([piece.logprob for piece in pieces]) == pytest.approx(
        evaluate_tokens(model, ids).perplexity, rel=1e-5
    )


def test_distinct_n_counts_ngrams():
    assert distinct([1, 2, 1, 2, 1], 1) == 2 / 5
    assert distinct([1, 2, 1, 2, 1], 2) == 2 / 4
    assert distinct([1, 2, 1, 2, 1], 3) == 2 / 3
    assert distinct([1, 2, 3, 4], 2) == 1


def test_metrics_of_an_empty_text_are_nan():
    found = score([], [], None)
    assert math.isnan(found.perplexity)
    assert all(math.isnan(share) for share in found.distinct)
    assert found.overlap is None


def test_overlap_is_the_longest_common_run():
    assert score([7, 1, 2, 3, 7], [-1.0] * 5, SuffixIndex([0, 1, 2, 3, 4])).overlap == 3


@pytest.mark.parametrize("start_id", [None, 0])
def test_reference_metrics_are_means_over_passages(model, start_id):
    held_out = np.array([0, 1, 2, 3, 0, 4, 5, 6])
    if start_id is not None:
        model.start_id = start_id
        rows = [[0, 1, 2, 3], [0, 4, 5, 6]]
    else:
        held_out, rows = held_out[:4], [[0, 1, 2, 3]]
    losses = [evaluate_tokens(model, row) for row in rows]
    found = reference_metrics(model, held_out, SuffixIndex([1, 2, 9, 4, 5, 6]), n_tokens=3)
    assert found.perplexity == pytest.approx(
        math.exp(sum(loss.nats for loss in losses) / sum(loss.n_tokens for loss in losses))
    )
    assert found.overlap == (2.5 if start_id is not None else 2)
    assert found.distinct == (1, 1, 1)


def test_next_token_tree_has_the_models_probabilities(model, tokenizer):
    branches = next_token_tree(model, tokenizer, "the", widths=(3, 2), min_probability=0.0)
    ids = torch.tensor([tokenizer.encode("the")])
    want = model(ids)[0, -1, : tokenizer.n_vocab].softmax(-1).topk(3)
    assert [branch.id for branch in branches] == want.indices.tolist()
    assert [branch.probability for branch in branches] == pytest.approx(
        want.values.tolist(), rel=1e-5
    )
    for branch in branches:
        longer = torch.cat([ids, torch.tensor([[branch.id]])], dim=1)
        want = model(longer)[0, -1, : tokenizer.n_vocab].softmax(-1).topk(2)
        assert [leaf.id for leaf in branch.branches] == want.indices.tolist()
        assert [leaf.probability for leaf in branch.branches] == pytest.approx(
            want.values.tolist(), rel=1e-5
        )
        assert not any(leaf.branches for leaf in branch.branches)


def test_next_token_tree_omits_rare_tokens_and_ends_at_end_of_text(model, tokenizer):
    best = next_token_tree(model, tokenizer, "the", widths=(4, 3, 2), min_probability=0.99)
    assert (len(best), len(best[0].branches), len(best[0].branches[0].branches)) == (1, 1, 1)
    whole = next_token_tree(model, tokenizer, "the", widths=(4, 3), min_probability=0.0)
    cut = next_token_tree(
        model, tokenizer, "the", widths=(4, 3), min_probability=0.0, eot=whole[1].id
    )
    assert cut[1].branches == ()
    assert (cut[0], cut[2], cut[3]) == (
        whole[0],
        whole[2],
        whole[3],
    )  # no text has that token after it


def test_next_token_tree_of_an_empty_prompt_is_an_error(model, tokenizer):
    with pytest.raises(UserError, match="the prompt is empty"):
        next_token_tree(model, tokenizer, "")


def test_scores_of_several_texts_are_over_all_tokens_and_means():
    index = SuffixIndex([0, 1, 2, 3, 4])
    found = score_samples([[7, 1, 2, 3], [4, 4], []], [[-1.0] * 4, [-3.0] * 2, []], index)
    assert found.perplexity == pytest.approx(math.exp(10 / 6))
    assert found.distinct[0] == (1 + 0.5) / 2, "a text without tokens has no share"
    assert found.overlap == pytest.approx((3 + 1 + 0) / 3)
    assert score_samples([[1]], [[-1.0]], None).overlap is None
