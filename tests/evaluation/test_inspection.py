"""An inspection holds what the tools measure: sums, probabilities and an ablation."""

import math

import pytest
import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.evaluation.inspection import inspect_ablation, inspect_text
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.lenses import surprise_bits
from llm_scratch.interpretability.patching import ablate, head
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import CharTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(["the hen sat"])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": 12,
        "emb_dim": 8,
        "n_heads": 2,
        "n_layers": 2,
    }
    model = GPTModel({**cfg, "drop_rate": 0.0, "qkv_bias": False})
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer.encode("the hen")


@torch.no_grad()
def test_contributions_sum_to_the_gap_of_the_two_best_logits(model, tokenizer, ids):
    first, second = model(torch.tensor([ids]))[0, -1].topk(2).values
    parts = inspect_text(model, tokenizer, ids).contributions
    assert sum(part.logits for part in parts) == pytest.approx((first - second).item(), abs=1e-4)
    assert [abs(part.logits) for part in parts] == sorted(
        (abs(part.logits) for part in parts), reverse=True
    )
    assert {part.part for part in parts} >= {
        "embedding",
        "0.0",
        "0.1",
        "0.mlp",
        "1.0",
        "1.1",
        "1.mlp",
        "bias",
    }


@torch.no_grad()
def test_heads_name_the_token_that_they_attend_to_most(model, tokenizer, ids):
    with capture(model, "*.hook_pattern") as acts:
        model(torch.tensor([ids]))
    attends = {
        part.part: part.attends for part in inspect_text(model, tokenizer, ids).contributions
    }
    weights = acts["blocks.1.attn.hook_pattern"][0, 1, -1]
    assert attends["1.1"].text == "the hen"[weights.argmax()]
    assert attends["1.1"].share == pytest.approx(weights.max().item())
    assert attends["1.mlp"] is None


@torch.no_grad()
def test_lens_ends_with_the_models_prediction(model, tokenizer, ids):
    lens = inspect_text(model, tokenizer, ids).lens
    assert [row.layer for row in lens] == ["embedding", "block 0", "block 1"]
    shares = model(torch.tensor([ids]))[0, -1].softmax(-1)
    assert lens[-1].kl_bits == 0
    assert lens[-1].top[0].text == tokenizer.decode([int(shares.argmax())])
    assert lens[-1].top[0].share == pytest.approx(shares.max().item())


@torch.no_grad()
def test_ablation_is_the_model_without_the_parts(model, tokenizer, ids):
    row = torch.tensor([ids])
    result = inspect_ablation(model, tokenizer, ids, "0.1+1.0")
    with ablate(model, head(0, 1), head(1, 0)):
        shares, bits = model(row)[0, -1].softmax(-1), surprise_bits(model, row).mean().item()
    assert result.after[0].share == pytest.approx(shares.max().item())
    assert result.bits_after == pytest.approx(bits)
    assert result.bits_before == pytest.approx(surprise_bits(model, row).mean().item())
    assert result.before == inspect_text(model, tokenizer, ids).lens[-1].top


def test_inspection_works_on_one_token(model, tokenizer, ids):
    assert inspect_text(model, tokenizer, ids[:1]).surprises[0].model_bits is None
    assert math.isnan(inspect_ablation(model, tokenizer, ids[:1], "0.0").bits_before)


@pytest.mark.parametrize(
    ("ids", "says"),
    [([], "the prompt is empty"), ([1] * 13, "13 tokens, and the model reads at most 12")],
)
def test_inspection_rejects_texts_that_cannot_be_encoded(model, tokenizer, ids, says):
    with pytest.raises(UserError, match=says):
        inspect_text(model, tokenizer, ids)
