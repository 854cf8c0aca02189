"""Matrix products of this processor as rows of a table: each kind is tried, timed and cached.

Tests: tests/cli/test_capabilities.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

WIDTH = 768  # of the timed model: GPT-2 small


@dataclass(frozen=True)
class Capability:
    """A kind of product: whether it works, its speedup over plain float32, and where it is used."""

    name: str
    works: str
    speed: str
    used: str


def capabilities(width: int = WIDTH) -> Iterator[Capability]:
    """The products of this machine: floating point, 8 and 4 bits, and compiled steps."""
    from llm_scratch.hardware.cpp_compiler import compiler_problem
    from llm_scratch.hardware.matmul_backend import select_matmul_backend

    yield Capability("float32 library", "yes", "", select_matmul_backend())
    yield from _floats(width)
    for bits in (8, 4):
        yield from _few_bits(bits, width)
    problem = compiler_problem()
    yield Capability("compiled steps", f"no: {problem}" if problem else "yes", "", "with --compile")


def _floats(width: int) -> Iterator[Capability]:
    from llm_scratch.hardware.packed_matmul import linear_seconds, packing_pays
    from llm_scratch.hardware.supported_dtypes import TOLERANCE

    seconds = linear_seconds(width)
    for dtype in TOLERANCE:
        name = str(dtype).removeprefix("torch.")
        for product in (name, f"{name} packed"):
            works = seconds.get(product, float("inf")) < float("inf")
            speed = _speed(seconds["float32"], seconds[product]) if works else ""
            is_used = product != name and packing_pays(dtype, width)
            yield Capability(
                product, "yes" if works else "no", speed, "to generate" if is_used else ""
            )


def _few_bits(bits: Literal[8, 4], width: int) -> Iterator[Capability]:
    from llm_scratch.hardware.packed_matmul import linear_seconds
    from llm_scratch.model.kernel_choice import choose_kernel, kernel_seconds
    from llm_scratch.model.quantized_kernels import KERNELS, usable

    float32, choice = linear_seconds(width)["float32"], choose_kernel(bits, width)
    seconds = kernel_seconds(bits, width) if usable(bits) else {}
    for name, (of, kernel) in KERNELS.items():
        if of != bits:
            continue
        works = name in usable(bits)
        speed = _speed(float32, seconds[name] + seconds[f"{name}, prompt"]) if works else ""
        used = "" if choice.kernel is not kernel else "to generate"
        if used and choice.many_rows is not None:
            used += f", prompts in {str(choice.many_rows).removeprefix('torch.')}"
        yield Capability(
            f"{bits} bits, {name}", "yes" if works else "no, or sums overflow", speed, used
        )


def _speed(float32: float, seconds: float) -> str:
    return f"{float32 / seconds:.1f}"
