"""Tensors and a model on a simulated device without float64 (Apple's MPS).

Anything that would be float64 there raises torch's error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WithoutFloat64(Tensor):
    """A tensor, and all results, that cannot become float64 until it is moved to the CPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, Tensor) and found.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support"
                " float64."
            )
        return found


class OnSuchADevice(nn.Module):
    """A model whose logits are on a device without float64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.cfg = model, model.cfg

    def forward(self, in_idx: Tensor) -> Tensor:
        return self.model(in_idx).as_subclass(WithoutFloat64)
