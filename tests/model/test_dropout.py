"""Dropout drops the right share without a pattern and keeps the mean.

The gradient passes where values were kept.
"""

import pytest
import torch

from llm_scratch.model.dropout import THRESHOLD_LEVELS, Dropout, dropout_mask

P = [0.0, 0.1, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("p", P)
def test_dropout_has_its_share_of_zeros_and_scale(p):
    torch.manual_seed(0)
    drawn = dropout_mask(torch.empty(1000, 1000), p)
    rounded = round(p * THRESHOLD_LEVELS) / THRESHOLD_LEVELS
    deviation = (rounded * (1 - rounded) / drawn.numel()) ** 0.5
    assert abs((drawn == 0).float().mean().item() - rounded) < 5 * deviation + 1e-7
    kept = drawn[drawn != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rounded)))
    torch.testing.assert_close(kept[0].item(), 1 / (1 - p), rtol=1e-4, atol=0)


def test_dropout_of_neighbors_is_independent():
    """Four draws come from one word: each of them and each pair is dropped as often as expected."""
    torch.manual_seed(1)
    dropped = (dropout_mask(torch.empty(1 << 20), 0.5) == 0).float()
    quarters = dropped.view(-1, 4)
    bound = 5 * 0.5 / quarters.shape[0] ** 0.5
    assert (quarters.mean(0) - 0.5).abs().max() < bound
    for shift in (1, 2, 3, 4, 5):
        both = (dropped[:-shift] * dropped[shift:]).mean()
        assert abs(both - 0.25) < 5 * 0.433 / dropped.numel() ** 0.5 * 1.5


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_accepts_any_shape_and_dtype(shape, dtype):
    x = torch.ones(shape, dtype=dtype)
    drawn = dropout_mask(x, 0.5)
    assert drawn.shape == x.shape
    assert drawn.dtype == dtype
    assert set(drawn.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_equals_torch_until_fast_is_set():
    x, found = torch.randn(50, 40), {}
    for name, layer in (
        ("torch", torch.nn.Dropout(0.3)),
        ("ours", Dropout(0.3)),
        ("fast", fast(0.3)),
    ):
        torch.manual_seed(2)
        found[name] = layer(x)
    assert torch.equal(found["torch"], found["ours"])
    assert not torch.equal(found["torch"], found["fast"])


def fast(p):
    layer = Dropout(p)
    layer.fast = True
    return layer


def test_dropout_gradient_is_its_mask():
    torch.manual_seed(2)
    layer, x = fast(0.3), torch.randn(50, 40, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())
    assert 0 < (x.grad == 0).float().mean() < 1


def test_dropout_is_off_in_eval_and_at_zero():
    x = torch.randn(7)
    assert fast(0.9).eval()(x) is x
    assert fast(0.0)(x) is x
    assert not fast(1.0)(x).any()


def test_dropout_repeats_with_the_seed():
    layer, x = fast(0.4), torch.ones(33)
    torch.manual_seed(5)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
