"""Kernels for 8- and 4-bit weights: equal to the formula on this machine, or not used."""

import pytest
import torch

from llm_scratch.model import quantized_kernels
from llm_scratch.model.quantized_kernels import (
    KERNELS,
    Expanded,
    FbgemmMatmul,
    IntMatmul,
    QuantizedWeight,
    is_correct,
    random_weight,
    rounded_inputs,
    usable,
)

NAMES = list(KERNELS)


@pytest.fixture(autouse=True)
def _fresh():
    usable.cache_clear()
    yield
    usable.cache_clear()


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 150])
@pytest.mark.parametrize("name", NAMES)
def test_usable_kernel_computes_the_formula(name, rows, with_bias):
    bits, kernel = KERNELS[name]
    if name not in usable(bits):
        pytest.skip(f"{name} does not work on this processor or with this torch")
    generator = torch.Generator().manual_seed(rows)
    weight = random_weight(bits, 52, 128, generator)
    x = torch.randn(rows, 128, generator=generator) * torch.logspace(-2, 2, rows)[:, None]
    bias = torch.randn(52, generator=generator) if with_bias else None
    exact = rounded_inputs(kernel, x).double() @ weight.dequantize().double().T + (
        0 if bias is None else bias
    )
    error = (kernel(weight)(x, bias) - exact).abs() / (
        x.abs() @ weight.dequantize().abs().T + (0 if bias is None else bias.abs())
    )
    assert error.max() < (1e-5 if issubclass(kernel, (IntMatmul, FbgemmMatmul)) else 2**-8)


def test_at_least_one_quantized_kernel_works():
    assert usable(8) or usable(4), (
        "this machine expands quantized weights; document it in docs/decoding.md"
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_expanded_weights_are_the_dequantized_matrix(bits):
    weight = random_weight(bits, 40, 64, torch.Generator().manual_seed(0))
    x, bias = torch.randn(3, 64), torch.randn(40)
    matrix = weight.dequantize().double()
    exact = x.double() @ matrix.T + bias
    sizes = x.double().abs() @ matrix.abs().T + bias.abs()
    # of 64 sums in any order, each rounded to 24 bits
    assert ((Expanded(weight)(x, bias) - exact).abs() <= 64 * 2**-24 * sizes).all()
    ((_, size),) = Expanded(weight).memory_ranges()
    assert size >= 4 * 40 * 64


def test_kernel_whose_sums_overflow_is_not_used(monkeypatch):
    """Without VNNI, inputs get an offset of 128 and pairs of products are added in 16 bits."""

    def overflows(a, b):
        a, b = a.int() + 128, b.int()
        pairs = a[:, ::2, None] * b[None, ::2] + a[:, 1::2, None] * b[None, 1::2]
        return pairs.clamp(-(2**15), 2**15 - 1).sum(1, dtype=torch.int32) - 128 * b.sum(
            0, dtype=torch.int32
        )

    assert is_correct(IntMatmul) == ("int_mm" in usable(8))
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: a.int() @ b.int())
    assert is_correct(IntMatmul)
    monkeypatch.setattr(torch, "_int_mm", overflows)
    assert not is_correct(IntMatmul)


def test_kernel_whose_rows_depend_on_each_other_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: a.int() @ b.int())
    monkeypatch.setattr(
        quantized_kernels, "row_steps", lambda x, levels: x.abs().amax().expand(len(x), 1) / levels
    )
    assert not is_correct(IntMatmul)


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError])
def test_kernel_that_raises_is_not_used(error, monkeypatch):
    def fails(*args):
        raise error("not here")

    monkeypatch.setattr(torch, "_int_mm", fails)
    assert "int_mm" not in usable(8)


def test_fbgemm_leaves_the_engine_of_torch_as_it_was():
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch was built without FBGEMM")
    before = torch.backends.quantized.engine
    FbgemmMatmul(QuantizedWeight(torch.ones(8, 16, dtype=torch.int8), torch.ones(8)))
    assert torch.backends.quantized.engine == before
