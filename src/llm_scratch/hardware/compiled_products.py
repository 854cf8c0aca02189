"""Time matrix products compiled by torch, to choose those of a compiled step.

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
CONTRACT = "fast"  # fused multiply-add
WIDE_COPIES = "-mmove-max=256"
"""Option of GCC 12: copy 32 bytes at once. With AVX2, torch loads eight 32-bit integers by a copy
to the stack. In two copies of 16 bytes it causes a store-forwarding stall: the load of 32 bytes
waits until both are stored."""
OPTIONS = CONTRACT, WIDE_COPIES
"""Part of the key of programs and timings. Whether the compiler knows an option is not: stored
programs must load where the compiler is missing."""
MAX_COMPILATIONS = 2**20
"""torch runs a function uncompiled when it has been compiled for more than 8 kinds of inputs."""


@cache
def compile_options() -> dict[str, Any]:
    """Options of torch's compiler: fused multiply-add, and fast loads of integers with AVX2.

    torch passes no further options to the C++ compiler, so the second one is appended to the value
    of the first.
    """
    contract = CONTRACT
    if torch.backends.cpu.get_cpu_capability() == "AVX2" and accepts_option(WIDE_COPIES):
        contract += f" {WIDE_COPIES}"
    return {"cpp.enable_floating_point_contract_flag": contract}


def compiled_seconds(
    question: str,
    names: Sequence[str],
    candidates: Callable[[Compile], Candidates],
    depends_on: Sequence[object],
    on_compile: Callable[[], None],
    uncompiled: Sequence[str] = (),
) -> Seconds:
    """Seconds of one product by the name of its implementation; measured once per machine.

    Args:
        question: a description of the measurement.
        names: of the implementations.
        candidates: receives the function that compiles, and returns the calls to time by name, for
            several matrices.
        depends_on: sizes that determine the answer, in addition to the number of threads.
        on_compile: called before the compilation.
        uncompiled: names of implementations that are not compiled. If all others fail, nothing is
            stored: the compiler may work at the next start.
    """

    def measure() -> Seconds:
        import torch._dynamo  # imports torch's compiler: 2 s

        on_compile()
        # older torch reuses a stored program that was compiled for another number of threads
        options = compile_options() | {"cpp.threads": torch.get_num_threads()}
        with torch._dynamo.config.patch(
            recompile_limit=MAX_COMPILATIONS, accumulated_recompile_limit=MAX_COMPILATIONS
        ):
            return time_tokens(candidates(partial(torch.compile, options=options, dynamic=False)))

    facts = *depends_on, f"{torch.get_num_threads()} threads", *OPTIONS
    compiled = [name for name in names if name not in uncompiled]
    with torch.no_grad():
        return cached_timings(question, names, facts, measure, compiled)
