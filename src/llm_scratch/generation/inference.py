"""Prepare a model to generate fast: data type, packed weights or compiled steps.

`loading.load_for_inference` loads a model and calls `prepare_for_inference`.
Tests: tests/generation/test_inference.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.generation.dtype import Dtype, DtypeChoice, with_dtype
from llm_scratch.hardware.allocator import keep_freed_memory
from llm_scratch.hardware.cpp_compiler import compiler_problem
from llm_scratch.model.introspection import context_length, device_of
from llm_scratch.model.kernel_choice import choose_kernel
from llm_scratch.model.language_model import as_language_model
from llm_scratch.model.packed import pack
from llm_scratch.model.quantized_kernels import TRACEABLE
from llm_scratch.storage.download import cache_folder


@dataclass(frozen=True)
class InferenceSetup:
    """What was chosen for inference, and why.

    Attributes:
        dtype: data type, or bits of a quantized model.
        kernels: "plain", "packed" (`model.packed`) or "compiled" (`model.compiled`).
        reason: why the kernels are not those that were requested; "" if they are.
    """

    dtype: DtypeChoice
    kernels: Literal["plain", "packed", "compiled"]
    reason: str = ""

    def __str__(self) -> str:
        compiled = ", compiled" if self.kernels == "compiled" else ""
        return f"{self.dtype}{compiled}{f', {self.reason}' if self.reason else ''}"


def prepare_for_inference(
    model: nn.Module,
    dtype: Dtype = "auto",
    *,
    generates: bool = True,
    long_generation: bool = False,
    compile: bool = False,
    single_sequence: bool = True,
    on_compile: Callable[[], None] = lambda: None,
) -> InferenceSetup:
    """Prepare a model in place; afterwards it can no longer be trained or saved.

    Args:
        model: in eval mode, on its device.
        dtype: "float32" to measure, "auto" to generate: see `generation.dtype`.
        generates: pack the matrices, which speeds up generation on a CPU and changes the last bits
            of the logits.
        long_generation: some thousand tokens will be generated; see `model.packed.pack`.
        compile: compile the generation step; see `model.compiled`. CPU only.
        single_sequence: each step has one token. With several, only models in 8 or 4 bits are
            compiled.
        on_compile: called before the first compilation, which takes 0.5 to 3 minutes.
    Returns:
        What was chosen, and why.
    Raises:
        UserError: as `with_dtype`; there is no compiler.
    """
    model, choice = with_dtype(model, dtype)
    if not generates and dtype == "float32" and choice.bits is None:
        choice = replace(choice, reason="for measurements")
    reason = ""
    if compile and not as_language_model(model).has_static_steps:
        compile = False
        reason = "not compiled: the operations of a step depend on the token"
    if compile and not single_sequence and not _batches_compile(model, choice.bits):
        compile = False
        reason = "not compiled: for several tokens at a time packed matrices are faster here"
    if compile:
        _compile(model, long_generation, single_sequence, on_compile)
    elif generates:
        pack(model, long_generation)
    if generates:
        # Each prompt frees and allocates the same large tensors. After loading, so that its own
        # memory is returned first.
        keep_freed_memory()
    if compile:
        return InferenceSetup(choice, "compiled")
    packed = generates and device_of(model).type == "cpu"  # `pack` leaves a model on a GPU as it is
    return InferenceSetup(choice, "packed" if packed else "plain", reason)


def _batches_compile(model: nn.Module, bits: Literal[8, 4] | None) -> bool:
    """Whether compiled steps of several tokens are faster than packed ones.

    They are for quantized models whose fastest kernel can be traced.
    """
    if bits is None:
        return False
    return choose_kernel(bits, as_language_model(model).emb_dim).kernel in TRACEABLE


def _compile(
    model: nn.Module, long_generation: bool, single_sequence: bool, on_compile: Callable[[], None]
) -> None:
    """Compile the generation step; for a single sequence, at once instead of at the first token."""
    # imports torch's compiler: 2 s
    from llm_scratch.model.compiled import MIN_CONTEXT, compile_steps

    announced = False

    def announce() -> None:
        nonlocal announced
        if announced:
            return
        announced = True
        if problem := compiler_problem():
            raise UserError(
                f"compiled steps need a C++ compiler, and {problem};"
                " install one (apt install g++), or do not compile"
            )
        on_compile()

    compile_steps(model, long_generation, cache_folder() / "steps", announce)
    if single_sequence and (context_length(model) or 0) >= MIN_CONTEXT:
        with torch.inference_mode():
            cache = model.new_cache(1)  # type: ignore[operator]
            for tokens in (2, 1):
                model(torch.zeros(1, tokens, dtype=torch.long), cache)
