"""Linear layers by oneDNN train as `nn.Linear` does, and only where requested."""

import copy

import pytest
import torch
from torch import nn

from llm_scratch.hardware.linear_kernel import FORWARD, INPUT_GRADIENT, has_onednn_linear
from llm_scratch.model import fast_linear as module
from llm_scratch.model.fast_linear import fast_product, large_shapes, set_products

pytestmark = pytest.mark.skipif(
    not has_onednn_linear(),
    reason="this build of torch or this processor has no oneDNN linear operator",
)


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr(module, "MIN_WEIGHTS", 24 * 16)
    monkeypatch.setattr(module, "MIN_ROWS", 2)


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the weights that oneDNN was given."""
    seen, real = [], module.onednn_linear
    monkeypatch.setattr(
        module, "onednn_linear", lambda x, w, b=None: seen.append(tuple(w.shape)) or real(x, w, b)
    )
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("products", "weights"),
    [((FORWARD,), [(24, 16)]), ((FORWARD, INPUT_GRADIENT), [(24, 16), (16, 24)])],
)
def test_fast_linear_and_its_gradients_equal_torch(bias, products, weights, calls):
    torch.manual_seed(0)
    layer = nn.Linear(16, 24, bias=bias)
    plain = copy.deepcopy(layer)
    set_products(layer, products)
    x = torch.randn(2, 5, 16, requires_grad=True)
    dy = torch.randn(2, 5, 24)
    ours, theirs = layer(x), plain(x)
    torch.testing.assert_close(ours, theirs)
    gradients = torch.autograd.grad(ours, (x, *layer.parameters()), dy)
    wanted = torch.autograd.grad(theirs, (x, *plain.parameters()), dy)
    torch.testing.assert_close(gradients, wanted, rtol=1e-5, atol=1e-5)
    assert calls == weights


def test_frozen_weights_and_inputs_get_no_gradient():
    layer = nn.Linear(16, 24).requires_grad_(False)
    set_products(layer, (FORWARD, INPUT_GRADIENT))
    x = torch.randn(5, 16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is layer.bias.grad is None
    layer.requires_grad_(True)
    layer(torch.randn(5, 16)).sum().backward()
    assert layer.weight.grad is not None


def test_fast_linear_is_removed_by_an_empty_list(calls):
    layer = nn.Linear(16, 24)
    set_products(layer, (FORWARD,))
    assert "forward" in vars(layer)
    set_products(layer, ())
    assert "forward" not in vars(layer)
    layer(torch.randn(5, 16))
    assert not calls


def test_small_matrices_few_rows_and_other_dtypes_keep_torchs_linear(calls):
    small, large = nn.Linear(16, 23), nn.Linear(16, 24)
    for layer in (small, large):
        set_products(layer, (FORWARD, INPUT_GRADIENT))
    small(torch.randn(5, 16))
    large(torch.randn(1, 16))
    with torch.autocast("cpu", torch.bfloat16):
        assert large(torch.randn(5, 16)).dtype == torch.bfloat16
        assert fast_product(torch.randn(5, 16), large.weight).dtype == torch.bfloat16
    large.double()(torch.randn(5, 16, dtype=torch.float64))
    assert not calls


def test_shapes_are_the_distinct_large_ones_without_the_head():
    model = nn.Module()
    model.a, model.b = nn.Linear(16, 24), nn.Linear(16, 24)
    model.c, model.small = nn.Linear(24, 16), nn.Linear(4, 4)
    model.out_head = nn.Linear(16, 999)
    assert large_shapes(model) == ((16, 24), (24, 16))


def test_copy_of_the_model_computes_with_its_own_weights():
    layer = nn.Linear(16, 24)
    set_products(layer, (FORWARD,))
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
    x = torch.randn(5, 16)
    assert not other(x).any()
    assert layer(x).any()
