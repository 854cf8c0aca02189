"""One token's step as one program of its own: the hundreds of operations between a token and its scores become a few loops of C++.

torch.export writes down what a step computes, and torch's compiler makes a program of it, which takes half a minute and needs g++; no
Python runs in it any more. Of one row, a product in 32 or 16 bits is written out as the sum that it is, so that it becomes one of those
loops too, which read a matrix row by row as fast as memory can be read. A prompt is read by the model as it is, with the head alone packed.
The numbers agree but for their last bits.
Proof: tests/model/test_compiled.py. Gain: `python benchmarks/decode.py`.
Source: https://docs.pytorch.org/docs/main/user_guide/torch_compiler/torch.compiler_aot_inductor.html.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.exc import CppCompileError, InductorError
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from llm_scratch.errors import MAX_REASON, RESOURCES, UserError, one_line
from llm_scratch.hardware.trials import processor
from llm_scratch.model.introspection import device_of
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.packed import PackedLinear, pack
from llm_scratch.model.quantized import QuantizedLinear
from llm_scratch.model.written_kernels import COMPILE_OPTIONS
from llm_scratch.storage.files import atomic_write

Program = Callable[[Tensor, KVCache], Tensor]
"""(one token of each row [B, 1], a cache with a place for it) -> [B, 1, C]; the cache holds them afterwards, but has not moved on"""

MIN_CONTEXT = 4  # a context for fewer tokens has no lengths between which a program could be for all


def compile_steps(model: nn.Module, much: bool = False, folder: Path | None = None, tell: Callable[[], None] = lambda: None) -> nn.Module:
    """Make a model ready to write on a CPU by compiled steps, in place; instead of `packed.pack`, and with the same consequences.

    The first step of one row compiles, and so does the first of several; each again where blanks stand before a text. Several rows of 32
    or 16 bits are written faster by a packed model; several of 8 or 4 bits are compiled only where the kernel that is fastest here can
    be part of a program. From then on the model's parts must stay what they are; no program looks at them.

    Args:
        much: as in `pack`.
        folder: where programs are kept, which no weights are in: the next model of this shape finds them. None: nowhere.
        tell: called before the half minute in which a compiler works.
    Raises:
        ValueError: the model is packed or compiled already, or not on a CPU.
    """
    if device_of(model).type != "cpu":
        raise ValueError(f"the model is on {device_of(model)}; steps are compiled for a CPU")
    if any(isinstance(part, PackedLinear) for part in model.modules()) or "hidden" in vars(model):
        raise ValueError("the model is packed or compiled already; let compile_steps do both")
    plain: Any = pack(model, much, blocks=False).hidden
    programs: dict[tuple[Any, ...], Program] = {}
    made = partial(load_or_compile, folder=folder, tell=tell)
    quantized = [part for part in model.modules() if isinstance(part, QuantizedLinear)]
    batches = [part.prepare_for_export(tell) for part in quantized]  # whether several rows gain too

    def hidden(in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """As the model's own, [B, T] -> [B, T, C]."""
        if cache is None or model.training or not _is_step(in_idx, cache) or (len(in_idx) > 1 and not all(batches)):
            return plain(in_idx, cache)
        if (end := cache.pos + 1) >= cache.keys[0].shape[2]:  # a program wants a place more than it needs
            cache.grow(min(end + cache.block, cache.max_length + 1))
        keys = cache.keys[0]
        kind = len(in_idx) > 1, cache.left_padding is not None, cache.max_length, len(cache.keys), keys.shape[1], keys.shape[3], keys.dtype
        if kind not in programs:
            programs[kind] = compile_step(model, plain, len(in_idx) > 1, cache, made)
        x = programs[kind](in_idx, cache)
        cache.advance(1)
        return x

    model.hidden = hidden  # type: ignore[assignment]
    return model


def _is_step(in_idx: Tensor, cache: KVCache) -> bool:
    """Whether this is a token of each row, for a cache of these rows with room for it: a program looks at no size."""
    rows, T = in_idx.shape
    fits = T == 1 and rows == cache.rows > 0 and (cache.left_padding is None or cache.left_padding.shape == (rows,))
    return fits and in_idx.dtype == torch.long and 2 <= cache.pos < cache.max_length and cache.max_length >= MIN_CONTEXT


def matvec(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` where all rows of x together are one: [1, ..., 1, K] -> [1, ..., 1, N]."""
    row = x.contiguous().as_strided(weight.shape[1:], (1,))  # otherwise what made the row would be done again for each output
    y = (weight * row).sum(1)
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)


class MatvecLinear(TorchFunctionMode):
    """Inside the block every `F.linear` is a `product_of_one_row`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Each call of torch's comes by here."""
        return (matvec if func is F.linear else func)(*args, **kwargs or {})


class _Step(nn.Module):
    """What is compiled: a step, with everything that changes from token to token as a tensor of its own."""

    def __init__(self, model: nn.Module, hidden: Program, cache: KVCache) -> None:
        super().__init__()
        self.model, self.hidden, self.cache = model, hidden, cache

    def forward(self, in_idx: Tensor, seen: Tensor, keys: list[Tensor], values: list[Tensor], blanks: list[Tensor]) -> Tensor:
        """`seen`: [pos], of which only the length counts; `blanks`: as in `KVCache`, or none."""
        cache = copy(self.cache)
        cache.keys, cache.values, cache.pos, cache.left_padding = keys, values, seen.shape[0], blanks[0] if blanks else None
        with MatvecLinear() if in_idx.shape[0] == 1 else nullcontext():
            return self.hidden(in_idx, cache)


def compile_step(model: nn.Module, hidden: Program, several: bool, cache: KVCache, made: Callable[..., Any]) -> Program:
    """Compile a step of one row, or of any number from two on; with blanks where the cache has some, without where not.

    Args:
        hidden: the model's own; it runs once, on zeros.
        made: `library`, which makes a program of it.
    """
    Dim = torch.export.Dim
    rows, length, places = Dim("rows", min=2), Dim("length", min=2, max=cache.max_length - 1), Dim("places", min=3)  # one name, one size
    batch = {0: rows} if several else {}
    lengths = torch.empty(cache.max_length)

    # a deprecation in torch's own export; a plain mode, as it cannot write down what inference mode made
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(action="ignore", category=FutureWarning):
        example = _example(several, cache)
        layers = [batch | {2: places}] * len(cache.keys)
        shapes = batch, {0: length}, layers, layers, [batch] * len(example[-1])
        step = torch.export.export(_Step(model, hidden, cache), example, dynamic_shapes=shapes, strict=False)
        own = step.state_dict | step.constants
        weights = [own[each.target] for each in step.graph_signature.input_specs if each.target is not None]
        run = made(step.graph_module, (*weights, *tree_leaves(example)), repr(step.range_constraints)).run

    def compiled(in_idx: Tensor, cache: KVCache) -> Tensor:
        """As `Program` says."""
        token = in_idx.clone(memory_format=torch.contiguous_format)  # a program does not ask how a tensor lies
        blanks = [] if cache.left_padding is None else [cache.left_padding.to(torch.long).contiguous()]
        return run([*weights, token, lengths[: cache.pos], *cache.keys, *cache.values, *blanks])[0]

    return compiled


def _example(several: bool, cache: KVCache) -> tuple[Any, ...]:
    """Inputs of a step, of sizes by which the compiler decides what is worth two threads: always the same for one shape of model."""
    B, seen = 4 if several else 1, min(cache.max_length - 1, 256)
    _, G, _, D = cache.keys[0].shape
    keys, values = ([torch.zeros(B, G, seen + 2, D, dtype=cache.keys[0].dtype) for _ in cache.keys] for _ in range(2))
    blanks = [] if cache.left_padding is None else [torch.zeros(B, dtype=torch.long)]
    return torch.zeros(B, 1, dtype=torch.long), torch.zeros(seen), keys, values, blanks


def load_or_compile(
    step: torch.fx.GraphModule, example: tuple[Tensor, ...], ranges: str, folder: Path | None, tell: Callable[[], None]
) -> Any:
    """A step's program: the kept one of an equal step on an equal machine, or a new one.

    Args:
        example: inputs of the step, weights first.
        ranges: of its sizes.
        folder, tell: as in `compile_steps`.
    Raises:
        UserError: the compiler failed.
    """
    open_library = torch._C._aoti.AOTIModelContainerRunnerCpu
    code = [line for line in step.print_readable(print_output=False, include_stride=True).splitlines() if not line.lstrip().startswith("#")]
    sizes = [(tuple(each.shape), each.dtype) for each in example]
    equal = [torch.__version__, torch.get_num_threads(), processor(), COMPILE_OPTIONS, ranges, sizes, *code]
    kept = folder and folder / f"{hashlib.sha256(repr(equal).encode()).hexdigest()[:32]}.so"
    with suppress(OSError, RuntimeError):  # none, or one that cannot be opened here: a new one takes its place
        if kept and _is_own(kept):
            return open_library(str(kept), 1)
    tell()
    try:
        made = Path(str(torch._inductor.aot_compile(step, example, options=COMPILE_OPTIONS)))
    except (CppCompileError, InductorError) as e:
        said = getattr(e, "output", None) or str(e).split("\n\n")[0]
        reason = one_line(said.strip().splitlines()[-1], MAX_REASON)
        raise UserError(f"compiling a step failed: {reason}; write without compiled steps", RESOURCES) from e
    if kept:
        with suppress(UserError):  # no place to keep it
            atomic_write(kept, made.read_bytes())
    return open_library(str(made), 1)


def _is_own(path: Path) -> bool:
    """Whether a file is this user's: another's program is not run."""
    return path.stat().st_uid == os.getuid() if hasattr(os, "getuid") else path.exists()
