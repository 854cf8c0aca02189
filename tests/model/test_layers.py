"""The basic layers: each kernel equals the formula beside it, and torch's or transformers'."""

import pytest
import torch
from torch.nn import functional as F

from llm_scratch.model.layers import GELU, FeedForward, LayerNorm, gelu, layer_norm


@pytest.fixture
def x():
    return 3 * torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)) + 1


def test_layer_norm_equals_its_formula(x):
    norm = LayerNorm(8)
    torch.nn.init.normal_(norm.scale)
    torch.nn.init.normal_(norm.shift)
    torch.testing.assert_close(norm(x), layer_norm(x, norm.scale, norm.shift))
    torch.testing.assert_close(norm(x), F.layer_norm(x, (8,), norm.scale, norm.shift, 1e-5))


def test_fresh_layer_norm_gives_mean_0_and_biased_variance_1(x):
    y = LayerNorm(8)(x)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 5), rtol=0, atol=1e-6)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(2, 5), rtol=0, atol=1e-4)


def test_layer_norm_has_the_notebooks_names():
    norm = LayerNorm(8)
    assert list(norm.state_dict()) == ["scale", "shift"]
    assert norm.eps == 1e-5


def test_gelu_equals_its_formula_and_transformers(x):
    from transformers.activations import NewGELUActivation

    torch.testing.assert_close(GELU()(x), gelu(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(GELU()(x), NewGELUActivation()(x), rtol=1e-5, atol=1e-6)


def test_gelu_is_near_zero_far_left_and_near_x_far_right():
    torch.testing.assert_close(
        GELU()(torch.tensor([-20.0, 0.0, 20.0])), torch.tensor([0.0, 0.0, 20.0])
    )


def test_feed_forward_is_four_times_as_wide_with_one_activation(x):
    ff = FeedForward({"emb_dim": 8})
    widen, _, narrow = ff.layers
    assert widen.weight.shape == (32, 8)
    want = gelu(x @ widen.weight.T + widen.bias) @ narrow.weight.T + narrow.bias
    torch.testing.assert_close(ff(x), want, rtol=1e-5, atol=1e-6)
    assert list(ff.state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.2.weight",
        "layers.2.bias",
    ]


def test_feed_forward_treats_each_token_independently(x):
    ff = FeedForward({"emb_dim": 8})
    torch.testing.assert_close(ff(x)[:, 2], ff(x[:, 2]))
