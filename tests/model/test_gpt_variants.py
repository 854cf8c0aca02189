"""GPT-2's variants equal transformers'.

They change activation, feed-forward width, norm eps, or the scale of scores by layer.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_scratch.architectures import GPTConfig
from llm_scratch.interop.hf import to_config
from llm_scratch.interop.hf_export import tensors
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.layers import ACTIVATIONS

variants = st.fixed_dictionaries(
    {
        "emb_dim": st.sampled_from([12, 20, 36]),
        "n_heads": st.sampled_from([1, 2, 4]),
        "n_layers": st.integers(1, 3),
        "vocab_size": st.integers(2, 50),
        "context_length": st.integers(9, 20),
        "qkv_bias": st.booleans(),
        "tie_embeddings": st.booleans(),
        "ff_dim": st.none() | st.integers(1, 70),
        "activation": st.sampled_from(sorted(ACTIVATIONS)),
        "norm_eps": st.sampled_from([1e-5, 1e-3, 0.1]),
        "scale_attention_by_layer": st.booleans(),
    }
)


def randomized(cfg: GPTConfig) -> GPTModel:
    """A model in which every weight, including norms and biases, has an effect."""
    torch.manual_seed(0)
    model = GPTModel(cfg).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@given(values=variants)
@settings(max_examples=20, deadline=None)
def test_variant_equals_transformers(values):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is the reference; install the hf extra"
    )
    cfg = GPTConfig(**values, drop_rate=0.0)
    ours = randomized(cfg)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**to_config(cfg, None, None))
    ).eval()
    missing = theirs.load_state_dict(tensors(ours), strict=False)
    assert not missing.unexpected_keys
    theirs.tie_weights()
    ids = torch.randint(0, cfg.vocab_size, (2, 9))
    with torch.no_grad():
        want = theirs(ids).logits
        torch.testing.assert_close(ours(ids), want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@given(values=variants)
@settings(max_examples=20, deadline=None)
def test_variant_with_a_cache_equals_without(values):
    model = randomized(GPTConfig(**values, drop_rate=0.0))
    ids, cache = torch.randint(0, model.cfg.vocab_size, (2, 9)), model.new_cache(2)
    with torch.no_grad():
        pieces = torch.cat([model(piece, cache) for piece in ids.split([4, 1, 1, 3], 1)], 1)
        torch.testing.assert_close(pieces, model(ids), rtol=1e-4, atol=1e-4)


def test_exact_gelu_is_x_times_the_normal_distribution():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(
        ACTIVATIONS["gelu"]()(x), x * torch.special.ndtr(x), rtol=1e-12, atol=1e-12
    )


def test_variants_do_not_change_the_initial_weights():
    """A seed gives the notebooks' weights whatever the activation."""
    states = []
    for activation in ACTIVATIONS:
        torch.manual_seed(1)
        states.append(GPTModel(GPTConfig(31, 8, 12, 3, 2, activation=activation)).state_dict())
    assert all(
        torch.equal(a, b)
        for state in states[1:]
        for a, b in zip(states[0].values(), state.values(), strict=True)
    )
