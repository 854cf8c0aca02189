"""Each lesson model equals the previous one where it should, the last the model's attention.

Printed values: tests/notebooks/test_step2.py.
"""

from __future__ import annotations

import re

import pytest
import torch

from llm_scratch.model.attention import MultiHeadAttention, attention_weights
from llm_scratch.model.lesson_models import (
    CausalAttention,
    ExampleDeepNeuralNetwork,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    print_gradients,
    softmax_naive,
    softmax_navie,
)

B, T, D_IN, D_OUT = 2, 5, 3, 4


@pytest.fixture
def x():
    return torch.randn(B, T, D_IN, generator=torch.Generator().manual_seed(0))


def copy_weights(to, of):
    to.load_state_dict(
        {name: weight for name, weight in of.state_dict().items() if name.startswith("W_")},
        strict=False,
    )


@pytest.mark.parametrize("shape", [(7,), (7, 3), (2, 3, 4)])
def test_softmax_naive_equals_torch(shape):
    x = torch.randn(shape) * 50
    torch.testing.assert_close(softmax_navie(x), torch.softmax(x, 0))
    assert softmax_naive is softmax_navie


def test_softmax_of_large_scores_is_finite():
    assert softmax_navie(torch.tensor([1e30, 0.0, -1e30])).tolist() == [1, 0, 0]


def test_self_attention_v2_equals_v1_with_transposed_matrices(x):
    v1, v2 = SelfAttention_v1(D_IN, D_OUT), SelfAttention_v2(D_IN, D_OUT)
    for name in ("W_query", "W_key", "W_value"):
        getattr(v1, name).data = getattr(v2, name).weight.T
    torch.testing.assert_close(v1(x[0]), v2(x[0]))
    assert v1(x[0]).shape == (T, D_OUT)


def test_self_attention_equals_the_formula(x):
    v2 = SelfAttention_v2(D_IN, D_OUT, qkv_bias=True)
    q, k, v = v2.W_query(x[0]), v2.W_key(x[0]), v2.W_value(x[0])
    for t in range(T):
        weights = torch.softmax(torch.stack([q[t] @ k[s] for s in range(T)]) / D_OUT**0.5, 0)
        torch.testing.assert_close(v2(x[0])[t], sum(weights[s] * v[s] for s in range(T)))


def test_causal_attention_equals_self_attention_of_each_prefix(x):
    v2 = SelfAttention_v2(D_IN, D_OUT, qkv_bias=True)
    causal = CausalAttention(D_IN, D_OUT, 9, qkv_bias=True)
    copy_weights(causal, v2)
    for row in range(B):
        for t in range(T):
            torch.testing.assert_close(causal(x)[row, t], v2(x[row, : t + 1])[t])


def test_causal_attention_uses_the_packages_weights(x):
    causal = CausalAttention(D_IN, D_OUT, 9)
    weights = attention_weights(causal.W_query(x)[:, None], causal.W_key(x)[:, None])[:, 0]
    torch.testing.assert_close(causal(x), weights @ causal.W_value(x))


def test_causal_attention_drops_weights_while_training_only(x):
    causal = CausalAttention(D_IN, D_OUT, 9, dropout=0.5)
    assert not torch.equal(causal(x), causal(x))
    causal.eval()
    assert torch.equal(causal(x), causal(x))


def test_multi_head_wrapper_concatenates_its_heads(x):
    wrapper = MultiHeadAttentionWrapper(D_IN, D_OUT, 9, num_heads=3)
    torch.testing.assert_close(wrapper(x), torch.cat([head(x) for head in wrapper.heads], -1))
    assert wrapper(x).shape == (B, T, 3 * D_OUT)


def test_multi_head_attention_equals_the_wrapper_and_an_output_projection(x):
    heads, size = 3, 4
    wrapper = MultiHeadAttentionWrapper(D_IN, size, 9, num_heads=heads)
    model = MultiHeadAttention(D_IN, heads * size, 9, 0.0, heads)
    for part in ("W_query", "W_key", "W_value"):
        getattr(model, part).weight.data = torch.cat(
            [getattr(head, part).weight for head in wrapper.heads]
        )
    torch.testing.assert_close(model(x), model.out_proj(wrapper(x)))


def test_shortcuts_add_where_the_sizes_agree():
    torch.manual_seed(0)
    plain, short = (
        ExampleDeepNeuralNetwork([3, 3, 2], use_shortcut) for use_shortcut in (False, True)
    )
    short.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3)
    first, second = plain.layers
    torch.testing.assert_close(plain(x), second(first(x)))
    torch.testing.assert_close(short(x), second(x + first(x)))


def test_print_gradients_prints_the_mean_gradients(capsys):
    model = ExampleDeepNeuralNetwork([3, 3, 1], False)
    print_gradients(model, torch.ones(1, 3))
    printed = re.findall(r"(\S+) has gradient mean of (\S+)", capsys.readouterr().out)
    assert [name for name, _ in printed] == ["layers.0.0.weight", "layers.1.0.weight"]
    for (_, size), layer in zip(printed, model.layers, strict=True):
        assert float(size) == pytest.approx(layer[0].weight.grad.abs().mean().item())
    x = torch.ones(1, 3)
    torch.testing.assert_close(
        model.layers[1][0].bias.grad,
        torch.autograd.grad((model(x) ** 2).mean(), model.layers[1][0].bias)[0],
    )
