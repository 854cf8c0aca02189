"""A data type counts as supported if a small product in it has the right numbers."""

import pytest
import torch

from llm_scratch.hardware import supported_dtypes
from llm_scratch.hardware.supported_dtypes import can_multiply

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _tried_again():
    """No answer is kept from one test to the next."""
    supported_dtypes._can_multiply.cache_clear()
    yield
    supported_dtypes._can_multiply.cache_clear()


def replace_products(monkeypatch, in_bfloat16):
    """Let products in bfloat16 be computed by another function."""
    linear = torch.nn.functional.linear

    def product(x, weight):
        return (in_bfloat16 if x.dtype == torch.bfloat16 else linear)(x, weight)

    monkeypatch.setattr(supported_dtypes.F, "linear", product)


def test_float32_is_supported():
    assert can_multiply(torch.float32, CPU)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8])
def test_other_types_are_not_tried(dtype):
    assert not can_multiply(dtype, CPU)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, TypeError])
def test_dtype_that_raises_is_not_supported(error, monkeypatch):
    def raises(x, weight):
        raise error("not implemented for 'BFloat16'")

    replace_products(monkeypatch, raises)
    assert not can_multiply(torch.bfloat16, CPU)
    assert can_multiply(torch.float32, CPU)


@pytest.mark.parametrize("factor", [1.05, float("nan")])
def test_dtype_with_wrong_numbers_is_not_supported(factor, monkeypatch):
    replace_products(monkeypatch, lambda x, weight: factor * (x @ weight.T))
    assert not can_multiply(torch.bfloat16, CPU)


def test_device_that_this_torch_lacks_supports_nothing():
    if torch.backends.mps.is_available():
        pytest.skip("needs a torch without MPS")
    assert not can_multiply(torch.float32, torch.device("mps"))
