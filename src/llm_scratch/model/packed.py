"""Pack a model for inference on a CPU: matrices in the order in which the processor reads them fastest.

To generate one token a model reads every weight once, so its speed is that of memory; a packed matrix comes close to
it, for several rows too (hardware/packed_matmul.py). The values stay the same, and `weight` returns them. Training
keeps the plain order: its weights change with each step, and with hundreds of rows there is little to gain.
Tests: tests/model/test_packed.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.hardware.huge_pages import collapse_huge_pages
from llm_scratch.hardware.packed_matmul import (
    can_pack,
    pack_weight,
    packed_matmul,
    packed_range,
    packing_pays,
)
from llm_scratch.model.introspection import device_of
from llm_scratch.model.kernel_choice import MIN_TRIAL_WIDTH
from llm_scratch.model.quantized import QuantizedLinear

QKV_NAMES = "W_query", "W_key", "W_value"


class PackedLinear(nn.Module):
    """`nn.Linear` for inference: its matrix can be read back, but not trained. [..., K] -> [..., N].

    Args:
        weight: [N, K] on the CPU, of a data type that `can_pack` accepts.
        bias: [N], or None.
    """

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("bias", bias)
        self._packed = pack_weight(weight)

    @property
    def weight(self) -> Tensor:
        """The matrix row by row, [N, K]; made at each access."""
        return self._packed.to_dense()

    def memory_ranges(self) -> list[tuple[int, int]]:
        """Address and bytes of the matrix."""
        return [packed_range(self._packed)]

    def forward(self, x: Tensor) -> Tensor:
        """x times the matrix, plus the bias."""
        return packed_matmul(x, self._packed, self.bias)


def pack(model: nn.Module, much: bool = False, blocks: bool = True) -> nn.Module:
    """Make a model ready to generate on a CPU, in place: matrices packed, those of queries, keys and values fused into one.

    Where packing does not work or is not faster, matrices stay plain; quantized ones get the kernel that is fastest here.
    The memory stays the same, except for a tied head, whose embedding remains a table of its own; each matrix exists twice
    while it is packed. Afterwards the model can no longer be trained or saved.

    Args:
        much: thousands of tokens will be generated: use huge pages too, which takes 0.1 to 1 s for 124M weights.
        blocks: pack the matrices of the blocks too, not the head alone; without, a compiler can see into them (compiled.py).
    """
    if device_of(model).type != "cpu":
        return model
    for att in list(model.modules()):
        three = [getattr(att, name, None) for name in QKV_NAMES]
        if all(type(part) is nn.Linear for part in three) or all(type(part) is QuantizedLinear for part in three):
            att.fused_qkv = fuse_linears(three)
            for name in QKV_NAMES:
                setattr(att, name, None)
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is nn.Linear and (blocks or parent is model) and _pays(part.weight):
                setattr(parent, name, PackedLinear(part.weight.detach(), None if part.bias is None else part.bias.detach()))
    for part in model.modules():
        if isinstance(part, QuantizedLinear):
            part.prepare()
    if much:
        collapse_huge_pages(each for part in model.modules() for each in _memory_ranges(part))
    return model.requires_grad_(False)


def _pays(weight: Tensor) -> bool:
    """Whether to pack this matrix: it is possible, and as a trial at its width says, faster."""
    width = min(weight.shape)
    return can_pack(weight.dtype) if width < MIN_TRIAL_WIDTH else packing_pays(weight.dtype, width)


def _memory_ranges(part: nn.Module) -> list[tuple[int, int]]:
    """Address and bytes of what a product reads."""
    if isinstance(part, (PackedLinear, QuantizedLinear)):
        return part.memory_ranges()
    return [(part.weight.data_ptr(), part.weight.nbytes)] if isinstance(part, nn.Linear) else []


def fuse_linears(parts: list[Any]) -> nn.Module:
    """One product instead of several with the same input; its outputs are theirs, side by side."""

    def beside(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat([tensor.detach() for tensor in tensors])

    if isinstance(parts[0], QuantizedLinear):
        return QuantizedLinear(beside("numbers"), beside("scale"), beside("bias"))  # type: ignore[arg-type]
    weight, bias = beside("weight"), beside("bias")
    whole = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), bias=bias is not None, device="meta")
    whole.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}), assign=True)
    return whole
