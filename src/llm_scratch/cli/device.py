"""Choose the device and precision of a command, and load a model for inference.

Tests: tests/cli/test_device.py.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_scratch.cli.terminal import print_note
from llm_scratch.errors import UserError
from llm_scratch.storage.download import cache_folder

if TYPE_CHECKING:
    from llm_scratch.tokenizers import Tokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""values of `--dtype`; `generation.dtype.Dtype` without importing torch"""


def resolve_device(requested: str) -> tuple[str, str]:
    """The torch device of `--device`, and a line that describes it and why it was chosen.

    Args:
        requested: "auto" (a CUDA device, else Apple's MPS, else the CPU), or a torch device such as "cpu", "cuda:1", "mps".
    Raises:
        UserError: this machine, or this build of torch, has no such device.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = requested if requested != "auto" else "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError as e:
        raise UserError(f"--device: unknown device {name!r}; expected auto, cpu, cuda, cuda:1, mps") from e
    here = {"cpu": True, "cuda": cuda and index < torch.cuda.device_count(), "mps": mps}
    if not here.get(kind, False):
        raise UserError(
            f"no device {name!r} here (torch {torch.__version__}); --device auto takes what there is, `llm-scratch doctor` lists it"
        )
    if kind == "cpu":
        threads = torch.get_num_threads()
        reason = "as requested" if requested != "auto" else "no CUDA or MPS device here"
        return name, f"cpu, {threads} thread{'s' * (threads != 1)} ({reason})"
    model = torch.cuda.get_device_name(index) if kind == "cuda" else "Apple GPU"
    return name, f"{name}, {model} ({'as requested' if requested != 'auto' else 'the fastest here'})"


def load_for_inference(
    path: str | Path,
    device: str,
    dtype: Dtype = "float32",
    generates: bool = True,
    long_generation: bool = False,
    compile: bool = False,
    single_sequence: bool = True,
) -> tuple[Any, Tokenizer, str]:
    """Load a model on its device and in its precision.

    Args:
        path: as `loading.load` takes it.
        device: as in `resolve_device`.
        dtype: "float32" to measure, "auto" to generate: see `generation.dtype`.
        generates: pack the matrices, which speeds up generation on a CPU and changes the last bits of the logits.
        long_generation: some thousand tokens will be generated; see `model.packed.pack`.
        compile: see `model.compiled`.
        single_sequence: each step has one token. With several, only models in 8 or 4 bits are compiled.
    Returns:
        The model, its tokenizer, and a line that describes device and precision, and why.
    Raises:
        UserError: as `resolve_device`, `load` and `with_dtype`; no compiler, or a device that is not a CPU.
    """
    from llm_scratch.generation.dtype import with_dtype
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.loading import load
    from llm_scratch.model.packed import pack

    name, reason = resolve_device(device)
    if compile and not name.startswith("cpu"):
        raise UserError(f"--compile: only CPUs are supported, and this is {name}; leave it out, or use --device cpu")
    model, tokenizer = load(path, name)
    model, precision = with_dtype(model, dtype)
    note = ""
    if compile and not single_sequence and not _batches_compile(model, precision.bits):
        compile = False
        note = ", not compiled: for several tokens at a time packed matrices are faster here"
    if compile:
        _compile(model, long_generation, single_sequence)
        note = ", compiled"
    elif generates:
        pack(model, long_generation)
    if generates:
        # Each prompt frees and allocates the same large tensors. After loading, so that memory is returned first.
        keep_freed_memory()
    return model, tokenizer, f"{reason}, {precision}{note}"


def _batches_compile(model: Any, bits: Literal[8, 4] | None) -> bool:
    """Whether compiled steps of several tokens are faster: for quantized models whose fastest kernel can be traced."""
    from llm_scratch.model.kernel_choice import choose_kernel
    from llm_scratch.model.quantized_kernels import TRACEABLE

    return bits is not None and choose_kernel(bits, int(model.cfg["emb_dim"])).kernel in TRACEABLE


def _compile(model: Any, long_generation: bool, single_sequence: bool) -> None:
    """Compile the generation step; for a single sequence, at once instead of at the first token.

    Raises:
        UserError: the compiler is missing, or it failed.
    """
    import torch

    from llm_scratch.model.compiled import MIN_CONTEXT, compile_steps
    from llm_scratch.model.introspection import context_length

    announced = False

    def announce() -> None:
        nonlocal announced
        if announced:
            return
        announced = True
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise UserError(
                f"--compile needs a C++ compiler, and {compiler} is not installed; install it (apt install g++), or leave it out"
            )
        print_note("Compiling the generation step takes half a minute, once per model shape.")

    compile_steps(model, long_generation, cache_folder() / "steps", announce)
    if single_sequence and (context_length(model) or 0) >= MIN_CONTEXT:
        with torch.inference_mode():
            cache = model.new_cache(1)
            for tokens in (2, 1):
                model(torch.zeros(1, tokens, dtype=torch.long), cache)
