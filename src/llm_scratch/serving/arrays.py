"""Tensors as JSON: shape, data type and base64 of the bytes, which needs no parsing of numbers.

Tests: tests/serving/test_inspection.py.
"""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

BYTES_PER_SHARE = 255
MAX_FLOAT16 = torch.finfo(torch.float16).max


def shares(x: Tensor) -> dict[str, Any]:
    """Values from 0 to 1 in one byte each, such as attention weights; off by at most 1/510."""
    return _encoded((x.clamp(0, 1) * BYTES_PER_SHARE).round().to(torch.uint8), "uint8")


def halves(x: Tensor) -> dict[str, Any]:
    """Values in float16, such as logits; those beyond its range become the largest it has."""
    return _encoded(x.clamp(-MAX_FLOAT16, MAX_FLOAT16).half(), "float16")


def rounded(x: Tensor, digits: int = 4) -> Any:
    """Values as nested lists of short decimals; None for what is not finite."""
    if x.dim():
        return [rounded(row, digits) for row in x]
    value = x.item()
    return round(value, digits) if value == value and abs(value) != float("inf") else None


def _encoded(x: Tensor, dtype: str) -> dict[str, Any]:
    values = x.numpy(force=True)
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"dtype": dtype, "shape": list(x.shape), "data": base64.b64encode(data).decode("ascii")}
