"""Surprise of tokens: the model's is its loss, the grammar's sums to the story's bits."""

import pytest
import torch

from llm_scratch.data.stories import HELD_OUT, generate_story
from llm_scratch.evaluation.loss import evaluate_tokens
from llm_scratch.evaluation.story_surprise import token_surprises
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import CharTokenizer

STORY = generate_story(HELD_OUT)


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train([STORY.text, "Xyz é"])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(2)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": 1200,
        "emb_dim": 8,
        "n_heads": 2,
        "n_layers": 1,
    }
    return GPTModel({**cfg, "drop_rate": 0.0, "qkv_bias": False}).eval()


def test_sums_are_the_losses_of_model_and_grammar(model, tokenizer):
    model.start_id = tokenizer.eot_token
    ids = [model.start_id, *tokenizer.encode(STORY.text)]
    rows = token_surprises(model, tokenizer, ids)
    assert "".join(row.text for row in rows) == STORY.text
    assert sum(row.grammar_bits for row in rows) == pytest.approx(STORY.bits)
    assert sum(row.model_bits for row in rows) == pytest.approx(
        evaluate_tokens(model, ids).nats / torch.tensor(2.0).log().item(), rel=1e-4
    )


def test_grammar_bits_are_none_after_text_no_story_continues(model, tokenizer):
    model.start_id = None
    rows = token_surprises(model, tokenizer, tokenizer.encode("The Xyz"))
    assert rows[0].model_bits is None
    assert [row.grammar_bits is None for row in rows] == [False] * 4 + [True] * 3
    assert rows[2].grammar_bits == pytest.approx(0, abs=1e-9)  # every story begins with "The"


def test_single_token_has_no_surprise_of_the_model(model, tokenizer):
    model.start_id = None
    (row,) = token_surprises(model, tokenizer, tokenizer.encode("T"))
    assert (row.text, row.model_bits) == ("T", None)
