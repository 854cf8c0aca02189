"""Pack a model for inference on a CPU: weights in the processor's fastest memory layout.

Generating a token reads every weight once, so memory limits its speed. Packed matrices come close
to that limit, for small batches too (hardware/packed_matmul.py). The values stay the same and can
be read back by `weight`. Training keeps the plain layout: weights change with each step, and a
product of hundreds of rows gains little.
Tests: tests/model/test_packed.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.hardware.huge_pages import collapse_huge_pages
from llm_scratch.hardware.packed_matmul import (
    pack_weight,
    packed_matmul,
    packed_range,
    packing_pays,
)
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.introspection import device_of
from llm_scratch.model.quantized import QuantizedLinear


class PackedLinear(nn.Module):
    """Linear layer with a packed weight, for inference only. [..., K] -> [..., N].

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
        """The weight in its plain layout, [N, K]; unpacked at each access."""
        return self._packed.to_dense()

    def memory_ranges(self) -> list[tuple[int, int]]:
        """Memory ranges of the weight: (address, bytes)."""
        return [packed_range(self._packed)]

    def forward(self, x: Tensor) -> Tensor:
        """Compute x W^T + bias."""
        return packed_matmul(x, self._packed, self.bias)


def pack(
    model: nn.Module, huge_pages: bool = False, blocks: bool = True, head: bool = True
) -> nn.Module:
    """Prepare a model in place for CPU inference: packed weights, matrices of one input fused.

    Where packing does not work or is not faster, matrices stay plain; quantized ones get the
    fastest kernel of this machine. A tied head needs memory for a second table, as the embedding
    stays plain; otherwise memory stays the same, but each matrix exists twice while it is packed.
    Afterwards the model can no longer be trained or saved. A model that is not on the CPU is
    returned unchanged.

    Args:
        model: in eval mode, on the CPU.
        huge_pages: move the weights into huge pages too, which takes 0.1 to 1 s for 124M weights
            and gains from about a thousand generated tokens on.
        blocks, head: pack the matrices of the blocks, and the output head; not those that are
            compiled (compiled.py).
    """
    if device_of(model).type != "cpu":
        return model
    for part in list(model.modules()):
        if isinstance(part, Fusable):
            _fuse(part)
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is not nn.Linear or not (head if parent is model else blocks):
                continue
            weight, bias = part.weight.detach(), part.bias
            if packing_pays(weight.dtype, min(weight.shape)):
                packed = PackedLinear(weight, None if bias is None else bias.detach())
                setattr(parent, name, packed)
    for part in model.modules():
        if isinstance(part, QuantizedLinear):
            part.prepare()
    if huge_pages:
        use_huge_pages(model)
    return model.requires_grad_(False)


def use_huge_pages(model: nn.Module) -> None:
    """Move the weights that a step reads into huge pages, where the system has them."""
    collapse_huge_pages(span for part in model.modules() for span in _memory_ranges(part))


def _memory_ranges(part: nn.Module) -> list[tuple[int, int]]:
    """Memory ranges of a layer's weights: (address, bytes)."""
    if isinstance(part, (PackedLinear, QuantizedLinear)):
        return part.memory_ranges()
    return [(part.weight.data_ptr(), part.weight.nbytes)] if isinstance(part, nn.Linear) else []


def _fuse(part: Fusable) -> None:
    """Fuse the layers of a part that read the same input, if they are all plain or all quantized.

    Others, such as those of an adapter, compute more than a product.
    """
    layers: list[Any] = [getattr(part, name) for name in part.fusable]
    if {type(layer) for layer in layers} in ({nn.Linear}, {QuantizedLinear}):
        part.fused_sizes = [layer.out_features for layer in layers]
        part.fused = fuse_linears(layers)
        for name in part.fusable:
            setattr(part, name, None)


def fuse_linears(parts: list[Any]) -> nn.Module:
    """Fuse linear layers with the same input into one, whose output concatenates theirs."""

    def concat(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat([tensor.detach() for tensor in tensors])

    bias = concat("bias")
    if isinstance(parts[0], QuantizedLinear):
        return QuantizedLinear(concat("qweight"), concat("scale"), bias)  # type: ignore[arg-type]
    n_in, n_out = parts[0].in_features, sum(part.out_features for part in parts)
    fused = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
    state = {"weight": concat("weight")} | ({} if bias is None else {"bias": bias})
    fused.load_state_dict(state, assign=True)
    return fused
