"""Find out which data types this machine multiplies correctly: float32, bfloat16, float16.

A device may raise an error for a data type or return wrong numbers, whatever its name promises. So
one small product is computed in each data type and compared with float64.
Tests: tests/hardware/test_supported_dtypes.py. Results of this machine: `llm-scratch doctor`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""relative error of a product of 96 terms that counts as correct, for each data type"""


def can_multiply(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether matrix products of this data type are correct on this device; tried once."""
    return dtype in TOLERANCE and _can_multiply(dtype, device)


def products_are_correct(
    dtype: torch.dtype, product_with: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> bool:
    """Whether a kind of product gives the right numbers for one row and for several.

    Args:
        dtype: of the matrices.
        product_with: takes a weight [40, 96] and returns the function that multiplies rows
            [M, 96] by it; all on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 96, generator=generator).to(dtype)
    product = product_with(weight)
    for rows in (1, 5):
        x = torch.randn(rows, 96, generator=generator).to(dtype)
        exact = x.double() @ weight.double().T
        error = (product(x).double() - exact).norm() / exact.norm()
        if not error < TOLERANCE[dtype]:
            return False
    return True


@cache
@torch.inference_mode()
def _can_multiply(dtype: torch.dtype, device: torch.device) -> bool:
    def on_device(weight: Tensor) -> Callable[[Tensor], Tensor]:
        moved = weight.to(device)
        return lambda x: F.linear(x.to(device), moved).cpu()

    try:
        return products_are_correct(dtype, on_device)
    except (RuntimeError, TypeError, NotImplementedError):
        return False
