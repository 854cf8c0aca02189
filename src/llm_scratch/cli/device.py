"""Which device a verb computes on, in which precision, and why. Proof: tests/cli/test_device.py."""

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
"""what `--dtype` takes; `generation.precision.Dtype`, without torch"""


def resolve_device(wanted: str) -> tuple[str, str]:
    """The device for `--device`, and a line that says why.

    Args:
        wanted: "auto" (a CUDA device, else Apple's MPS, else the CPU), or a name of torch's such as "cpu", "cuda:1", "mps".
    Raises:
        UserError: no such device in this machine or this build of torch.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = wanted if wanted != "auto" else "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError as e:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, mps") from e
    here = {"cpu": True, "cuda": cuda and index < torch.cuda.device_count(), "mps": mps}
    if not here.get(kind, False):
        raise UserError(
            f"no device {name!r} here (torch {torch.__version__}); --device auto takes what there is, `llm-scratch doctor` lists it"
        )
    if kind == "cpu":
        threads = torch.get_num_threads()
        why = "as requested" if wanted != "auto" else "no CUDA or MPS device here"
        return name, f"cpu, {threads} thread{'s' * (threads != 1)} ({why})"
    model = torch.cuda.get_device_name(index) if kind == "cuda" else "Apple GPU"
    return name, f"{name}, {model} ({'as requested' if wanted != 'auto' else 'the fastest here'})"


def load_for_inference(
    where: str | Path,
    device: str,
    dtype: Dtype = "float32",
    writes: bool = True,
    much: bool = False,
    compiled: bool = False,
    alone: bool = True,
) -> tuple[Any, Tokenizer, str]:
    """A model on its device and in its precision, its tokenizer, and a line that says which and why.

    Args:
        where: as `loading.load` takes it.
        device: as in `choose`.
        dtype: float32 to measure, "auto" to write: see `generation.precision`.
        writes: pack the matrices, which lets a CPU write twice as fast and changes the last bits of the scores.
        much: it will write some thousand tokens; see `model.packed.pack`.
        compiled: see `model.compiled`.
        alone: it reads one token at a time. Where it reads several at once, only models in 8 or 4 bits are compiled.
    Raises:
        UserError: as `choose`, `load` and `choose_precision`; nothing to compile with or for.
    """
    from llm_scratch.generation.dtype import with_dtype
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.loading import load
    from llm_scratch.model.packed import pack

    name, why = resolve_device(device)
    if compiled and not name.startswith("cpu"):
        raise UserError(f"--compile writes programs for a CPU, and this is {name}; leave it out, or give --device cpu")
    model, tokenizer = load(where, name)
    model, precision = with_dtype(model, dtype)
    how = ""
    if compiled and not alone and not _batches_compile(model, precision.bits):
        compiled, how = False, ", not compiled: for several tokens at a time packed matrices are faster here"
    if compiled:
        _compile(model, much, alone)
        how = ", compiled"
    elif writes:
        pack(model, much)
    if writes:
        keep_freed_memory()  # each prompt frees and takes the same large tensors; after loading, whose memory goes back
    return model, tokenizer, f"{why}, {precision}{how}"


def _batches_compile(model: Any, bits: Literal[8, 4] | None) -> bool:
    """Whether steps of several tokens gain by being compiled: with few bits, if the fastest kernel can be in a program."""
    from llm_scratch.model.kernel_choice import choose_kernel
    from llm_scratch.model.quantized_kernels import TRACEABLE

    return bits is not None and choose_kernel(bits, int(model.cfg["emb_dim"])).kernel in TRACEABLE


def _compile(model: Any, much: bool, alone: bool) -> None:
    """`compile_steps`; where one text is written, before it begins.

    Raises:
        UserError: no compiler, or it failed.
    """
    import torch

    from llm_scratch.model.compiled import MIN_CONTEXT, compile_steps
    from llm_scratch.model.introspection import context_length

    told = False

    def tell() -> None:
        nonlocal told
        if told:
            return
        told = True
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise UserError(
                f"--compile needs a C++ compiler, and there is no {compiler} here; install it (apt install g++), or leave it out"
            )
        print_note("Compiling a token's step takes half a minute, once for each shape of model.")

    compile_steps(model, much, cache_folder() / "steps", tell)
    if alone and (context_length(model) or 0) >= MIN_CONTEXT:
        with torch.inference_mode():
            cache = model.new_cache(1)
            for tokens in (2, 1):
                model(torch.zeros(1, tokens, dtype=torch.long), cache)
