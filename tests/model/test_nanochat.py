"""The nanochat GPT equals transformers' NanoChat, and itself with a cache.

Its first loss is that of a uniform guess.
"""

import math

import pytest
import torch
from equivalence import transformers_nanochat

from llm_scratch.errors import UserError
from llm_scratch.generation.decode import generate
from llm_scratch.model import build
from llm_scratch.model.loss import next_token_loss
from llm_scratch.model.nanochat import NanoChatGPT

TINY = {
    "vocab_size": 97,
    "context_length": 32,
    "emb_dim": 24,
    "n_heads": 6,
    "n_layers": 3,
    "drop_rate": 0.0,
    "architecture": "nanochat",
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build(TINY).eval()
    for parameter in model.parameters():  # initial weights of zero would hide an error
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.inference_mode()
def test_nanochat_equals_transformers(model):
    ids = torch.randint(0, 97, (2, 32))
    torch.testing.assert_close(
        model(ids), transformers_nanochat(model)(ids).logits, rtol=1e-4, atol=1e-4
    )


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [[1] * 11, [4, 1, 1, 5], [11]])
def test_cached_nanochat_logits_in_any_chunks_equal_uncached(model, cuts):
    ids, cache = torch.randint(0, 97, (2, 11)), model.new_cache(2, block=3)
    torch.testing.assert_close(
        torch.cat([model(piece, cache) for piece in ids.split(cuts, 1)], 1),
        model(ids),
        rtol=1e-4,
        atol=1e-4,
    )
    assert cache.pos == 11


def test_padded_row_is_generated_as_if_alone(model):
    long, short = [5, 6, 7, 8, 9], [3, 4]
    together = generate(model, torch.tensor([long, [-1, -1, -1, *short]]), 8)
    assert together[0].tolist() == generate(model, torch.tensor([long]), 8)[0].tolist()
    assert together[1, 3:].tolist() == generate(model, torch.tensor([short]), 8)[0].tolist()


def test_nanochat_starts_uniform_and_trains_every_matrix():
    torch.manual_seed(0)
    model, ids = build(TINY), torch.randint(0, 97, (4, 33))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    first = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
    assert first.item() == pytest.approx(math.log(97), rel=1e-6)
    for _ in range(
        3
    ):  # zero matrices become non-zero in order: the head, the block outputs, the inner matrices
        optimizer.zero_grad()
        next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    assert next_token_loss(model(ids[:, :-1]), ids[:, 1:]) < first


def test_nanochat_tied_embeddings_share_one_table():
    model = build(TINY | {"tie_embeddings": True})
    assert model.out_head.weight is model.tok_emb.weight


@pytest.mark.parametrize("tied", [True, False])
def test_nanochat_n_params_formula_equals_the_counted_parameters(tied):
    model = build(TINY | {"tie_embeddings": tied})
    assert model.cfg.n_params == sum(p.numel() for p in model.parameters())


def test_nanochat_has_no_biases_and_no_norm_weights():
    assert all(p.dim() == 2 for p in build(TINY).parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"qkv_bias": True},
            (
                "qkv_bias: architecture 'nanochat' has no such setting;"
                " its own settings are tie_embeddings"
            ),
        ),
        ({"init": "gpt2"}, "init: architecture 'nanochat' has no such setting"),
        (
            {"architecture": "gpt"},
            "architecture 'gpt': its settings are a GPTConfig; expected a NanoChatConfig",
        ),
        ({"emb_dim": 18}, "n_heads: a head size of 3 is odd"),
    ],
)
def test_nanochat_rejects_unsupported_settings(wrong, message):
    with pytest.raises(UserError, match=message):
        NanoChatGPT(TINY | wrong)


def test_nanochat_refuses_too_many_tokens(model):
    with pytest.raises(ValueError, match="33 tokens do not fit context_length=32"):
        model(torch.zeros(1, 33, dtype=torch.long))
