"""Matrices in the order in which a CPU reads them fastest: for writing, where every token waits until each weight was read once.

In memory a matrix lies row by row, but a processor multiplies with 8 to 32 rows at a time, so it jumps between as many places. oneDNN,
torch's library for products, knows the order in which what is needed together lies together, and a product of one row then runs as fast
as memory can be read: about twice as fast as before, for several rows too. The numbers are the same, and `weight` gives them back.
Training keeps the plain order: its weights change with each step, and for hundreds of rows there is little to gain.
Proof: tests/model/test_packed.py. Gain: `python benchmarks/decode.py`.
Source: https://uxlfoundation.github.io/oneDNN/dev_guide_understanding_memory_formats.html.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.hardware.huge_pages import collapse_huge_pages
from llm_scratch.model.quantized import QuantizedLinear
from llm_scratch.model.running import device_of

DTYPES = (torch.float32, torch.bfloat16)  # what is packed
NAMES = "W_query", "W_key", "W_value"  # what is joined


def can_pack() -> bool:
    """Whether this processor and this torch have such an order."""
    known = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise", "data_ptr", "_nbytes"))
    return known and torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


class PackedLinear(nn.Module):
    """`nn.Linear` that only multiplies: its matrix can be read back, but not learn. [..., K] -> [..., N].

    Args:
        weight: [N, K] on the CPU, float32 or bfloat16.
        bias: [N], or None.
    """

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("bias", bias)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)  # None: for any number of rows

    @property
    def weight(self) -> Tensor:
        """The matrix row by row, [N, K]; made anew at each look."""
        return self._packed.to_dense()

    def places(self) -> list[tuple[int, int]]:
        """Where in memory the matrix lies: its address and bytes."""
        return [(torch.ops.mkldnn.data_ptr(self._packed), torch.ops.mkldnn._nbytes(self._packed))]

    def forward(self, x: Tensor) -> Tensor:
        """x times the matrix, plus the bias."""
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")


def pack(model: nn.Module, much: bool = False, blocks: bool = True) -> nn.Module:
    """Make a model ready to write on a CPU, in place: every matrix packed, those of queries, keys and values joined to one.

    Elsewhere than on such a CPU the model stays as it is; quantized matrices have an order of their own and are only joined. What stays
    is as large, but for a tied head, whose embedding stays a table beside it; while it packs it holds what it turns twice.
    Afterwards the model can no longer learn or be saved.

    Args:
        much: some thousand tokens will be written: lay the matrices into large pages too, which takes 0.1 to 1 s for 124M weights.
        blocks: pack the matrices of the blocks too, not the head alone; without, a compiler can look into them (compiled.py).
    """
    if device_of(model).type != "cpu":
        return model
    for att in list(model.modules()):
        three = [getattr(att, name, None) for name in NAMES]
        if all(type(part) is nn.Linear for part in three) or all(type(part) is QuantizedLinear for part in three):
            att.together = joined(three)
            for name in NAMES:
                setattr(att, name, None)
    for parent in list(model.modules()) if can_pack() else ():
        for name, part in list(parent.named_children()):
            if type(part) is nn.Linear and part.weight.dtype in DTYPES and (blocks or parent is model):
                setattr(parent, name, PackedLinear(part.weight.detach(), None if part.bias is None else part.bias.detach()))
    for part in model.modules():
        if isinstance(part, QuantizedLinear):
            part.prepare()
    if much:
        collapse_huge_pages(place for part in model.modules() for place in _places(part))
    return model.requires_grad_(False)


def _places(part: nn.Module) -> list[tuple[int, int]]:
    """Where in memory lies what a product reads: addresses and bytes."""
    if isinstance(part, (PackedLinear, QuantizedLinear)):
        return part.places()
    return [(part.weight.data_ptr(), part.weight.nbytes)] if isinstance(part, nn.Linear) else []


def joined(parts: list[Any]) -> nn.Module:
    """One product in place of several with the same input: its outputs are theirs, side by side."""

    def beside(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat([tensor.detach() for tensor in tensors])

    if isinstance(parts[0], QuantizedLinear):
        return QuantizedLinear(beside("numbers"), beside("scale"), beside("bias"))  # type: ignore[arg-type]
    weight, bias = beside("weight"), beside("bias")
    whole = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), bias=bias is not None, device="meta")
    whole.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}), assign=True)
    return whole
