"""Linear layers that read the same input, for inference fused into one matrix.

A product costs a start of all threads besides its reading of the weights, so fewer and larger ones
generate faster. Queries, keys and values are the usual case (fused QKV), the two projections of a
gated feed-forward network another. `packed.pack` fuses them.
Tests: tests/model/test_packed.py.
"""

from __future__ import annotations

from torch import Tensor, nn


class Fusable(nn.Module):
    """Base class of parts with several linear layers that read the same input.

    Attributes:
        fusable: names of these layers; a class or an instance sets them.
        fused: one layer in their place, with their outputs one after the other; None: not fused.
        fused_sizes: sizes of these outputs.
    """

    fusable: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.fused: nn.Module | None = None
        self.fused_sizes: list[int] = []

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the layers `fusable` in their order. [..., C] -> [..., size] each."""
        if self.fused is not None:
            return self.fused(x).split_with_sizes(self.fused_sizes, -1)
        return tuple(getattr(self, name)(x) for name in self.fusable)
