"""The library that multiplies: never a rounding one, never a draw of chance."""

import pytest
import torch

from llm_scratch.hardware import matmul_backend
from llm_scratch.hardware.matmul_backend import select_matmul_backend


@pytest.fixture(autouse=True)
def _as_it_was():
    knob = torch.backends.mkldnn.matmul
    before = knob.fp32_precision
    yield
    knob.fp32_precision = before


@pytest.mark.parametrize("maker", ["", "GenuineIntel"])
def test_intels_library_stays_on_intels_processors(maker, monkeypatch):
    monkeypatch.setattr(matmul_backend, "_cpu_vendor", lambda: maker)
    before = torch.backends.mkldnn.matmul.fp32_precision
    assert select_matmul_backend() == "MKL"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_library_that_rounds_is_not_taken(monkeypatch):
    monkeypatch.setattr(matmul_backend, "_cpu_vendor", lambda: "AuthenticAMD")
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(matmul_backend, "_is_float32", lambda: False)
    assert select_matmul_backend() == "MKL"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_choosing_draws_no_chance():
    seed = torch.get_rng_state()
    select_matmul_backend()
    assert torch.equal(torch.get_rng_state(), seed)


def test_whatever_is_taken_multiplies_in_float32(monkeypatch):
    monkeypatch.setattr(matmul_backend, "_cpu_vendor", lambda: "AuthenticAMD")
    select_matmul_backend()
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(1))
    right = a.double() @ a.double()
    assert (a @ a - right).norm() / right.norm() < 1e-6


def test_a_rounding_is_seen(monkeypatch):
    real = torch.Tensor.__matmul__
    assert matmul_backend._is_float32()
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: real(a.bfloat16(), b.bfloat16()) if a.dtype == torch.float32 else real(a, b)
    )
    assert not matmul_backend._is_float32()
