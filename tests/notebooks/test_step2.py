"""Step 2, attention: the notebook's printed values.

Its mistakes must not return.
"""

from __future__ import annotations

import pytest
import torch

from attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    attention_weights,
    softmax_naive,
    softmax_navie,
)

X = torch.tensor(
    [
        [0.43, 0.20, 0.90],
        [0.56, 0.84, 0.56],
        [0.22, 0.85, 0.34],
        [0.77, 0.25, 0.36],
        [0.05, 0.80, 0.79],
        [0.77, 0.46, 0.12],
    ]
)


def seeded(kind, *args, **kwargs):
    torch.manual_seed(123)
    return kind(*args, **kwargs)


def test_cells_5_to_11_one_query_by_hand(assert_prints):
    scores = X @ X[1]
    assert_prints(X[0] @ X[1], 0.9128)
    assert_prints(scores, [0.9128, 1.3328, 1.0276, 0.8428, 1.1424, 0.8848])
    assert_prints(scores / scores.sum(), [0.1486, 0.2170, 0.1673, 0.1372, 0.1860, 0.1440])
    weights = softmax_navie(scores)
    assert_prints(weights, [0.1469, 0.2236, 0.1648, 0.1370, 0.1848, 0.1429])
    assert_prints(weights @ X, [0.4494, 0.6051, 0.5260])


def test_cells_14_to_16_all_queries(assert_prints):
    scores = X @ X.T
    assert_prints(scores[0], [1.0349, 0.9128, 0.5706, 0.7051, 0.8925, 0.5311])
    weights = softmax_navie(scores.T).T  # the notebook's own runs down the first dimension
    assert_prints(weights[0], [0.2126, 0.1881, 0.1336, 0.1529, 0.1844, 0.1284])
    torch.testing.assert_close(weights.sum(-1), torch.ones(6))


def test_cells_20_to_27_trained_matrices(assert_prints):
    model = seeded(SelfAttention_v1, 3, 2)
    query, keys = X[1] @ model.W_query, X @ model.W_key
    assert_prints(query, [0.4187, 1.3529])
    assert_prints(query @ keys[1], 1.5944)
    assert_prints(keys @ query, [1.2516, 1.5944, 1.3049, 0.7979, 1.6963, 0.7657])
    assert_prints(
        softmax_navie(keys @ query / 2**0.5), [0.1635, 0.2083, 0.1698, 0.1186, 0.2239, 0.1159]
    )
    assert_prints(model(X)[1], [0.2916, 0.7877])


def test_cell_29_self_attention_v1(assert_prints):
    rows = [
        [0.2888, 0.7799],
        [0.2916, 0.7877],
        [0.2873, 0.7762],
        [0.2861, 0.7730],
        [0.2903, 0.7838],
        [0.2855, 0.7715],
    ]
    assert_prints(seeded(SelfAttention_v1, 3, 2)(X), rows)


def test_cell_30_self_attention_v2(assert_prints):
    rows = [
        [-0.5370, -0.1067],
        [-0.5365, -0.1103],
        [-0.5360, -0.1114],
        [-0.5367, -0.1081],
        [-0.5364, -0.1101],
        [-0.5363, -0.1097],
    ]
    assert_prints(seeded(SelfAttention_v2, 3, 2)(X), rows)


def test_cell_36_masked_and_renormalised(assert_prints):
    shares = torch.softmax(X @ X.T, -1).tril()
    shares = shares / shares.sum(-1, keepdim=True)
    for row, printed in enumerate(
        [[1.0], [0.3965, 0.6035], [0.2531, 0.3997, 0.3471], [0.2470, 0.2834, 0.2020, 0.2675]]
    ):
        assert_prints(shares[row, : row + 1], printed)
    hidden = attention_weights(X[None, None] * 3**0.5, X[None, None])[
        0, 0
    ]  # the root takes back the scale: cell 36 had none
    torch.testing.assert_close(hidden, shares)


def test_cells_37_38_hidden_future(assert_prints):
    model = seeded(SelfAttention_v2, 3, 2)
    weights = attention_weights(model.W_query(X)[None, None], model.W_key(X)[None, None])[0, 0]
    rows = [
        [1.0],
        [0.4874, 0.5126],
        [0.3223, 0.3386, 0.3391],
        [0.2521, 0.2571, 0.2416, 0.2492],
        [0.1972, 0.2055, 0.1995, 0.1965, 0.2013],
        [0.1655, 0.1712, 0.1659, 0.1648, 0.1676, 0.1651],
    ]
    for row, printed in enumerate(rows):
        assert_prints(weights[row, : row + 1], printed)
        assert not weights[row, row + 1 :].any()
    causal = CausalAttention(3, 2, 6)
    causal.load_state_dict(model.state_dict() | {"mask": causal.mask})
    torch.testing.assert_close(causal(X[None])[0], weights @ model.W_value(X))


def test_cells_41_42_dropout(assert_prints):
    dropped = torch.nn.functional.dropout(torch.ones(1000, dtype=torch.float64), 0.3)
    assert set(dropped.tolist()) == {0.0, 1.4285714285714286}
    model = seeded(SelfAttention_v2, 3, 2)
    weights = attention_weights(model.W_query(X)[None, None], model.W_key(X)[None, None])[0, 0]
    torch.manual_seed(123)
    assert_prints(
        torch.nn.functional.dropout(weights.expand(6, 6, 6), 0.5)[0, 0], [2.0, 0, 0, 0, 0, 0]
    )


def test_cells_48_51_heads_side_by_side(assert_prints):
    torch.manual_seed(123)
    batch = torch.randn(2, 6, 3)
    model = MultiHeadAttentionWrapper(3, 2, 6, 0.0, num_heads=2)
    context_vecs = model(batch)
    assert context_vecs.shape == (2, 6, 4)
    assert_prints(context_vecs[0, 0], [-0.0408, -0.0034, 0.1444, -0.1567])
    assert MultiHeadAttentionWrapper(3, 3, 6)(batch).shape == (2, 6, 6)


# What went wrong in the notebook


@pytest.mark.parametrize("kind", [SelfAttention_v1, SelfAttention_v2])
def test_self_attention_reads_its_input_and_its_weights(kind):
    """The notebook read global names, so every input and every weight gave one result."""
    first = seeded(kind, 3, 2)
    assert not torch.allclose(first(X), first(X.flip(0)))
    assert not torch.allclose(first(X), kind(3, 2)(X))
    assert not torch.allclose(first(X)[0], torch.tensor([0.2772, 0.7753]), atol=1e-3)
    assert not torch.allclose(first(X)[0], torch.tensor([-0.5356, -0.0864]), atol=1e-3)
    assert first(X[:4]).shape == (4, 2)
    assert first.__class__.forward.__code__.co_names.count("inputs") == 0


def test_mask_is_a_table_not_a_cube():
    """`torch.ones(n, n, n)` made every weight six times."""
    assert CausalAttention(3, 2, 6).mask.shape == (6, 6)
    assert MultiHeadAttention(4, 4, 6, 0.0, 2).mask.shape == (6, 6)
    assert torch.equal(CausalAttention(3, 2, 6).mask, MultiHeadAttention(4, 4, 6, 0.0, 2).mask)


def test_softmax_survives_large_scores():
    scores = torch.tensor([1000.0, 999.0, -1000.0])
    assert torch.isnan(scores.exp() / scores.exp().sum()).any(), "the notebook's formula"
    torch.testing.assert_close(softmax_navie(scores), scores.softmax(0))
    assert softmax_naive is softmax_navie


def test_multi_head_attention_itself_is_run():
    """The notebook's section created only the wrapper and never used the class."""
    torch.manual_seed(123)
    model = MultiHeadAttention(3, 4, 6, 0.0, 2)
    assert [name for name, _ in model.named_parameters()] == [
        "W_query.weight",
        "W_key.weight",
        "W_value.weight",
        "out_proj.weight",
        "out_proj.bias",
    ]
    batch = torch.stack((X, X))
    wrapper = MultiHeadAttentionWrapper(3, 2, 6, num_heads=2)
    for h, head in enumerate(wrapper.heads):
        for part in ("W_query", "W_key", "W_value"):
            getattr(head, part).weight.data = getattr(model, part).weight[2 * h : 2 * h + 2]
    torch.testing.assert_close(model(batch), model.out_proj(wrapper(batch)))
