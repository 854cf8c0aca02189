"""One token's step as one compiled program: the many small operations between the matrices become a few.

torch.compile writes C++ (or GPU code) for them, which takes half a minute and a compiler, and then saves a twentieth of each token in 32
bits and a quarter in 8 or 4. A prompt is read as before. The numbers agree but for their last bits.
Proof: tests/model/test_compiled.py. Gain: `python benchmarks/decode.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.model.cache import KVCache


def compile_steps(model: nn.Module) -> nn.Module:
    """Let a model take its steps of one token compiled, in place; the first step compiles. Pack it before (`packed.pack`).

    From then on its parts must stay what they are: before each step torch would look whether one was exchanged, hundreds of looks that
    take a twentieth of a token in 4 bits, and here it does not. Texts, caches and their sizes it still looks at.
    """
    plain: Any = model.hidden

    def step(in_idx: Tensor, cache: KVCache) -> Tensor:
        return plain(in_idx, cache)

    step.__code__ = step.__code__.replace()  # torch keeps programs with the code they come from: without looks, each model needs its own
    options: Any = {"guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe}
    options["size_asserts"] = False  # a packed matrix has no strides to assert
    compiled = torch.compile(step, dynamic=True, fullgraph=True, options=options)  # dynamic: the cache grows with each token

    def hidden(in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """As the model's own, [B, T] -> [B, T, C]."""
        if cache is None or in_idx.shape[1] > 1 or cache.pos < 2:  # 0 and 1 would each be compiled apart
            return plain(in_idx, cache)
        if (end := cache.pos + 1) >= cache.keys[0].shape[2]:  # so would growing, and a cache that is full to its last place
            cache.make_room(min(end + cache.block, cache.limit + 1))
        return compiled(in_idx, cache)

    model.hidden = hidden  # type: ignore[assignment]
    return model
