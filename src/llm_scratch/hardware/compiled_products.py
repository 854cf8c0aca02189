"""Time matrix products that torch's compiler has translated, as a compiled step will run them.

Compiling takes some seconds, so the timings are cached (trials.py).
Tests: tests/hardware/test_compiled_products.py. Gain: LOG.md, 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from llm_scratch.hardware.cpp_compiler import accepts_option
from llm_scratch.hardware.trials import Candidates, Seconds, cached_timings, time_tokens

Compile = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
"""compiles a function at its first call"""
WIDE_COPIES = "-mmove-max=256"
"""Option of GCC: copy 32 bytes at once. With AVX2, torch loads eight 32-bit integers by a copy to
the stack; copied as twice 16 bytes, the processor waits for both before it reads all 32."""


@cache
def compile_options() -> dict[str, Any]:
    """Options of torch's compiler: fused multiply-add, and fast loads of integers with AVX2.

    torch passes no further options to the C++ compiler, so this one follows another.
    """
    contract = "fast"
    if torch.backends.cpu.get_cpu_capability() == "AVX2" and accepts_option(WIDE_COPIES):
        contract += f" {WIDE_COPIES}"
    return {"cpp.enable_floating_point_contract_flag": contract}


def compiled_seconds(
    question: str,
    names: Sequence[str],
    candidates: Callable[[Compile], Candidates],
    depends_on: Sequence[object],
    on_compile: Callable[[], None],
) -> Seconds:
    """Seconds of one product by the name of its implementation; measured once per machine.

    Args:
        question: a description of the measurement.
        names: of the implementations.
        candidates: given a function that compiles, makes calls of each implementation, with several
            matrices.
        depends_on: sizes that determine the answer, in addition to the number of threads.
        on_compile: called before the compilation.
    """
    # older torch reuses a stored program that was compiled for another number of threads
    options = compile_options() | {"cpp.threads": torch.get_num_threads()}

    def measure() -> Seconds:
        on_compile()
        return time_tokens(candidates(partial(torch.compile, options=options, dynamic=False)))

    with torch.no_grad():
        return cached_timings(question, names, [*depends_on, options], measure)
