"""The fast GELU has the value and the gradient of PyTorch's kernel, in any number of pieces."""

import pytest
import torch
from torch.nn import functional as F

from llm_scratch.model import fast_gelu as module
from llm_scratch.model.fast_gelu import fast_gelu, fast_gelu_applies
from llm_scratch.model.layers import GELU


@pytest.mark.parametrize("piece", [1, 7, 64, 10**6])
@pytest.mark.parametrize("shape", [(1,), (3, 21), (2, 4, 9)])
def test_fast_gelu_and_its_gradient_equal_pytorch(piece, shape, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", piece)
    torch.manual_seed(0)
    x = (4 * torch.randn(shape)).requires_grad_()
    dy = torch.randn(shape)
    ours, theirs = fast_gelu(x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    (gradient,), (wanted,) = (torch.autograd.grad(y, x, dy) for y in (ours, theirs))
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_fast_gelu_error_is_no_larger_than_that_of_pytorch():
    x = torch.linspace(-12, 12, 100_001)
    exact = F.gelu(x.double(), approximate="tanh")
    ours = (fast_gelu(x).double() - exact).abs().max()
    theirs = (F.gelu(x, approximate="tanh").double() - exact).abs().max()
    assert ours <= 2 * theirs


def test_fast_gelu_rounds_bfloat16_once():
    """PyTorch's kernel computes in float32, too."""
    torch.manual_seed(0)
    x = torch.randn(5000).bfloat16().requires_grad_()
    ours, theirs = fast_gelu(x), F.gelu(x, approximate="tanh")
    assert ours.dtype == torch.bfloat16
    assert (ours != theirs).float().mean() < 0.01
    (gradient,), (wanted,) = (torch.autograd.grad(y.sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(gradient, wanted)


def test_large_and_extreme_inputs_have_finite_gradients():
    x = torch.tensor([-3e38, -1e4, -20.0, 0.0, 20.0, 1e4]).requires_grad_()
    y = fast_gelu(x)
    y[1:].sum().backward()
    assert y[1:].isfinite().all()
    assert x.grad[1:].isfinite().all()
    torch.testing.assert_close(y[1:], torch.tensor([0.0, 0.0, 0.0, 20.0, 1e4]), rtol=0, atol=1e-6)


def test_fast_gelu_accepts_a_tensor_that_is_not_contiguous():
    x = torch.randn(8, 6).T.requires_grad_()
    dy = torch.randn(8, 6).T
    ours, theirs = fast_gelu(x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    (gradient,), (wanted,) = (torch.autograd.grad(y, x, dy) for y in (ours, theirs))
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "device", "applies"),
    [
        (torch.float32, "cpu", True),
        (torch.bfloat16, "cpu", True),
        (torch.float64, "cpu", False),
        (torch.float32, "meta", False),
    ],
)
def test_fast_gelu_applies_to_training_types_on_a_cpu(dtype, device, applies):
    assert fast_gelu_applies(torch.empty(2, dtype=dtype, device=device)) is applies


def test_gelu_uses_fast_gelu_only_in_training_when_set(monkeypatch):
    calls = []
    monkeypatch.setattr("llm_scratch.model.layers.fast_gelu", lambda x: calls.append(x) or x)
    layer, x = GELU(), torch.randn(3)
    layer(x)
    assert not calls, "the notebooks' numbers"
    layer.fast = True
    layer(x)
    assert len(calls) == 1
    layer.eval()(x)
    assert len(calls) == 1
