"""The product of one row as sums equals `F.linear`, however many parts are read at once."""

import shutil
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from llm_scratch.hardware.compiled_products import compile_options
from llm_scratch.model import matvec as module
from llm_scratch.model.matvec import MatvecChoice, MatvecLinear, choose_matvec, matvec


@pytest.mark.parametrize("n_parts", [1, 4])
@pytest.mark.parametrize("n_out", [1, 3, 7, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_matvec_equals_linear(shape, bias, n_out, n_parts):
    x, weight = torch.randn(shape), torch.randn(n_out, 5)
    bias = torch.randn(n_out) if bias else None
    torch.testing.assert_close(matvec(x, weight, bias, n_parts), F.linear(x, weight, bias))
    apart = torch.randn(*shape, 2)[..., 0]  # not contiguous
    torch.testing.assert_close(matvec(apart, weight, bias, n_parts), F.linear(apart, weight, bias))


def test_matvec_linear_replaces_every_linear(monkeypatch):
    calls = []
    monkeypatch.setattr(
        module, "matvec", lambda *given, **more: calls.append(more) or matvec(*given, **more)
    )
    layer, x = torch.nn.Linear(5, 7), torch.randn(1, 1, 5)
    with MatvecLinear(n_parts=4):
        inside = layer(x) + 0
    assert calls == [{"n_parts": 4}]
    torch.testing.assert_close(inside, layer(x))
    assert len(calls) == 1


@pytest.mark.slow  # compiling takes some seconds
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_parts", [1, 4])
def test_compiled_matvec_equals_linear(n_parts, dtype):
    x, weight, bias = torch.randn(1, 96), torch.randn(37, 96), torch.randn(37)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.no_grad():
        product = partial(matvec, n_parts=n_parts)
        compiled = torch.compile(product, options=compile_options(), dynamic=False)
        torch.testing.assert_close(compiled(x, weight, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize(
    ("seconds", "choice"),
    [
        ([3, 2, 3, 3], MatvecChoice(4, compiles_head=True)),
        ([2, 2, 2, 2], MatvecChoice(1, compiles_head=False)),
        ([2.06, 2, 9, 9], MatvecChoice(1, compiles_head=True)),  # gains less than MIN_GAIN
        ([2.2, 2, 9, 9], MatvecChoice(4, compiles_head=True)),
        ([2, 3, 4, 4], MatvecChoice(1, compiles_head=True)),
        ([3, 2, 1, 4], MatvecChoice(4, compiles_head=False)),
        ([3, 2, 4, 1], MatvecChoice(4, compiles_head=False)),
        ([3, 2, 4], MatvecChoice(4, compiles_head=True)),  # cannot pack
    ],
)
def test_fastest_form_is_chosen(seconds, choice, monkeypatch):
    names = "parts: 1", "parts: 4", "plain", "packed"
    found = dict(zip(names, seconds))
    monkeypatch.setattr(module, "compiled_seconds", lambda *_: found)
    monkeypatch.setattr(module, "can_pack", lambda dtype: "packed" in found)
    assert choose_matvec(torch.float32, 128) == choice


def test_every_candidate_computes_the_product(monkeypatch):
    """Without a compiler: the functions themselves are called."""
    seen = {}

    def call_all(question, names, candidates, size, on_compile, uncompiled):
        calls = candidates(lambda product: product)
        assert set(calls) == set(names)
        assert set(uncompiled) <= set(names)
        seen.update({name: [call() for call in calls[name]] for name in names})
        return dict.fromkeys(names, 1.0)

    monkeypatch.setattr(module, "compiled_seconds", call_all)
    choose_matvec(torch.float32, 128)
    assert {"parts: 1", "parts: 4", "plain"} <= set(seen)
    for products in seen.values():
        assert len(products) > 1  # several matrices
        for y in products:
            torch.testing.assert_close(y, torch.full((1, 512), 32.0))


def test_narrow_model_needs_no_trial(monkeypatch):
    monkeypatch.setattr(module, "compiled_seconds", pytest.fail)
    assert choose_matvec(torch.float32, 64) == MatvecChoice(1, compiles_head=False)
