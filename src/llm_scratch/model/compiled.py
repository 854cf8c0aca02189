"""One token's step as one compiled program: the many small operations between the matrices become a few.

torch.compile writes C++ (or GPU code) for them, which takes half a minute and a compiler, and then saves a sixth of each token in 8 or 4
bits. A prompt is read as before. The numbers agree but for their last bits.
Proof: tests/model/test_compiled.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.model.cache import KVCache
from llm_scratch.model.packed import PackedLinear


def compile_steps(model: nn.Module) -> nn.Module:
    """Let a model take its steps of one token compiled, in place; the first step compiles. One in few bits may be packed (`packed.pack`).

    Raises:
        ValueError: a matrix is packed by oneDNN, which no compiler reads.
    """
    if any(isinstance(part, PackedLinear) for part in model.modules()):
        raise ValueError("a packed matrix of 32 or 16 bits cannot be compiled; leave out pack(model), or quantize it first")
    plain: Any = model.hidden
    compiled = torch.compile(plain, dynamic=True)  # the cache grows with each token: lengths are left open

    def hidden(in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """As the model's own, [B, T] -> [B, T, C]."""
        return (compiled if cache is not None and in_idx.shape[1] == 1 else plain)(in_idx, cache)

    model.hidden = hidden  # type: ignore[assignment]
    return model
