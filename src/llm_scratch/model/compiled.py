"""Compile the decoding step of a model ahead of time (AOTInductor), for faster generation on a CPU.

torch.export captures the operations of one decoding step, and torch's compiler turns them into one
C++ program without Python; that takes from half a minute to three minutes and needs g++. In a step
of one row, a matmul is emitted as explicit sums, which the compiler fuses into its loops
(matvec.py, written_kernels.py). Prompts run through the model itself. The output head is packed, or
compiled by itself where that is faster. Logits differ from the plain model's in their last bits.
Tests: tests/model/test_compiled.py, tests/model/test_compiled_head.py.
Gain: `python benchmarks/decode.py`.
Source:
https://docs.pytorch.org/docs/main/user_guide/torch_compiler/torch.compiler_aot_inductor.html.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.exc import CppCompileError, InductorError
from torch.utils._pytree import tree_leaves

from llm_scratch.errors import MAX_REASON, RESOURCES, UserError, one_line
from llm_scratch.hardware.compiled_products import OPTIONS, compile_options
from llm_scratch.hardware.packed_matmul import MIN_TRIAL_WIDTH
from llm_scratch.hardware.trials import processor
from llm_scratch.model.introspection import device_of
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import as_language_model
from llm_scratch.model.matvec import MatvecChoice, MatvecLinear, choose_matvec
from llm_scratch.model.packed import PackedLinear, pack, use_huge_pages
from llm_scratch.model.quantized import QuantizedLinear
from llm_scratch.storage.files import atomic_write

Program = Callable[[Tensor, KVCache], Tensor]
"""(one token per row [B, 1], a cache with space for it) -> [B, 1, C]; does not advance `pos`"""

MIN_CONTEXT = 4  # shorter contexts leave no range of lengths for torch.export


def compile_steps(
    model: nn.Module,
    huge_pages: bool = False,
    folder: Path | None = None,
    on_compile: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Prepare a model in place to generate by compiled steps on a CPU; replaces `packed.pack`.

    The first step with one row compiles, as does the first with several rows, and each again for
    left padding. Batches of float32 or 16-bit models are faster packed; batches of 8- or 4-bit
    models are compiled only if the fastest kernel can be exported. The model can no longer be
    trained, saved or changed: programs keep their own references to the weights.

    Args:
        model: on the CPU, neither packed nor compiled.
        huge_pages: as in `pack`.
        folder: where to store programs, without weights, for the next model of this shape; None: do
            not store them.
        on_compile: called before each compilation.
    Raises:
        ValueError: the model is packed or compiled already, or not on a CPU.
        UserError: the operations of its steps depend on the token.
    """
    if device_of(model).type != "cpu":
        raise ValueError(f"the model is on {device_of(model)}; steps are compiled for a CPU")
    if any(isinstance(part, PackedLinear) for part in model.modules()) or "hidden" in vars(model):
        raise ValueError("the model is packed or compiled already; let compile_steps do both")
    _check_static_steps(model)
    choice = _choose_matvec(model, on_compile)
    plain: Any = pack(model, blocks=False, head=not choice.compiles_head).hidden
    programs: dict[tuple[Any, ...], Program] = {}
    load = partial(load_or_compile, folder=folder, on_compile=on_compile)
    quantized = [part for part in model.modules() if isinstance(part, QuantizedLinear)]
    exportable = [part.prepare_for_export(on_compile) for part in quantized]  # prepares every layer
    batches_compile = all(exportable)
    if huge_pages:
        use_huge_pages(model)
    compile_head(model, choice, load)

    def hidden(in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states as from the model itself, [B, T] -> [B, T, C]."""
        if cache is None or model.training or not _is_step(in_idx, cache):
            return plain(in_idx, cache)
        is_batch = len(in_idx) > 1
        if is_batch and not batches_compile:
            return plain(in_idx, cache)
        end = cache.pos + 1
        if end >= cache.keys[0].shape[2]:  # a program needs one position more than it fills
            cache.grow(min(end + cache.block, cache.max_length + 1))
        keys = cache.keys[0]
        sizes = cache.max_length, len(cache.keys), keys.shape[1], keys.shape[3]
        kind = is_batch, cache.left_padding is not None, sizes, keys.dtype
        if kind not in programs:
            programs[kind] = compile_step(model, plain, choice.n_parts, is_batch, cache, load)
        x = programs[kind](in_idx, cache)
        cache.advance(1)
        return x

    model.hidden = hidden  # type: ignore[assignment]
    return model


def _check_static_steps(model: nn.Module) -> None:
    """Check that a model's decoding steps are always the same operations."""
    if not as_language_model(model).has_static_steps:
        raise UserError(
            "compile: which operations a step runs depends on the token; leave out --compile"
        )


def _choose_matvec(model: nn.Module, on_compile: Callable[[], None]) -> MatvecChoice:
    """How compiled rows are multiplied with the floating-point matrices of a model."""
    weights = [part.weight for part in model.modules() if type(part) is nn.Linear]
    if not weights:
        return MatvecChoice(1, compiles_head=False)
    largest = max(weights, key=Tensor.numel)
    return choose_matvec(largest.dtype, min(largest.shape), on_compile)


def _is_step(in_idx: Tensor, cache: KVCache) -> bool:
    """Whether this is one token per row with space in the cache; programs do not check sizes."""
    rows, T = in_idx.shape
    padding_fits = cache.left_padding is None or cache.left_padding.shape == (rows,)
    shapes_fit = T == 1 and rows == cache.rows > 0 and padding_fits and in_idx.dtype == torch.long
    return shapes_fit and 2 <= cache.pos < cache.max_length and cache.max_length >= MIN_CONTEXT


class _Step(nn.Module):
    """The module to compile: a decoding step whose changing state is passed as tensors."""

    def __init__(self, model: nn.Module, hidden: Program, n_parts: int, cache: KVCache) -> None:
        super().__init__()
        self.model = model
        self.hidden = hidden
        self.n_parts = n_parts
        self.cache = cache

    def forward(
        self,
        in_idx: Tensor,
        seen: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        padding: list[Tensor],
    ) -> Tensor:
        """`seen`: [pos], used for its length only; `padding`: `KVCache.left_padding`, or empty."""
        cache = copy(self.cache)
        cache.keys = keys
        cache.values = values
        cache.pos = seen.shape[0]
        cache.left_padding = padding[0] if padding else None
        with MatvecLinear(self.n_parts) if in_idx.shape[0] == 1 else nullcontext():
            return self.hidden(in_idx, cache)


def compile_step(
    model: nn.Module,
    hidden: Program,
    n_parts: int,
    is_batch: bool,
    cache: KVCache,
    load: Callable[..., Any],
) -> Program:
    """Compile a step for one row, or for 2 and more rows; with left padding if `cache` has it.

    Args:
        model: holds the weights.
        hidden: the model's plain `hidden`; traced once, on zeros.
        n_parts: as in `matvec`.
        is_batch: whether the program takes several rows.
        cache: an example; its sizes become part of the program.
        load: `load_or_compile`.
    Raises:
        UserError: as `compile_steps`.
    """
    _check_static_steps(model)
    rows = torch.export.Dim("rows", min=2)
    length = torch.export.Dim("length", min=2, max=cache.max_length - 1)
    capacity = torch.export.Dim("capacity", min=3)
    batch = {0: rows} if is_batch else {}
    lengths = torch.empty(cache.max_length)

    with _exporting():
        example = _example(is_batch, cache)
        layers = [batch | {2: capacity}] * len(cache.keys)
        shapes = batch, {0: length}, layers, layers, [batch] * len(example[-1])
        run = _compile(_Step(model, hidden, n_parts, cache), example, shapes, load)

    def program(in_idx: Tensor, cache: KVCache) -> Tensor:
        """Run the step; see `Program`."""
        token = in_idx.clone(memory_format=torch.contiguous_format)  # programs assume this layout
        padding = []
        if cache.left_padding is not None:
            padding = [cache.left_padding.to(torch.long).contiguous()]
        return run(token, lengths[: cache.pos], *cache.keys, *cache.values, *padding)

    return program


class CompiledHead(nn.Module):
    """An output head that computes a single row by a compiled program. [..., K] -> [..., N].

    Args:
        head: computes several rows.
        run: the program, [1, K] -> [1, N].
        dtype: of the program's input.
    """

    def __init__(
        self, head: nn.Module, run: Callable[[Tensor], Tensor], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.head = head
        self.run = run
        self.dtype = dtype

    @property
    def weight(self) -> Tensor:
        """The weight of the head, [N, K]."""
        return self.head.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of hidden states, [..., K] -> [..., N]."""
        if x.numel() != x.shape[-1]:
            return self.head(x)
        row = x.reshape(1, -1).to(self.dtype).contiguous()  # programs assume this layout
        return self.run(row).to(x.dtype).view(*x.shape[:-1], -1)


class _Row(nn.Module):
    """The module to compile: a head for one row."""

    def __init__(self, head: nn.Module, n_parts: int) -> None:
        super().__init__()
        self.head = head
        self.n_parts = n_parts

    def forward(self, row: Tensor) -> Tensor:
        """[1, K] -> [1, N]."""
        with MatvecLinear(self.n_parts):
            return self.head(row)


def compile_head(model: nn.Module, choice: MatvecChoice, load: Callable[..., Any]) -> None:
    """Let a model's output head compute single rows by a compiled program, where that is faster."""
    head = getattr(model, "out_head", None)
    if isinstance(head, QuantizedLinear):
        is_faster, dtype, width = head.gains_by_compiling, torch.float32, head.quantized.shape[1]
    elif type(head) is nn.Linear:
        is_faster, dtype, width = choice.compiles_head, head.weight.dtype, head.in_features
        is_faster = is_faster and min(head.weight.shape) >= MIN_TRIAL_WIDTH
    else:
        return
    if is_faster:
        with _exporting():
            row = torch.zeros(1, width, dtype=dtype)
            run = _compile(_Row(head, choice.n_parts), (row,), None, load)
        model.out_head = CompiledHead(head, run, dtype)


@contextmanager
def _exporting() -> Iterator[None]:
    """What torch.export needs: it cannot capture tensors of inference mode."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        warnings.catch_warnings(action="ignore", category=FutureWarning),  # of torch's own code
    ):
        yield


def _compile(
    module: nn.Module, example: tuple[Any, ...], shapes: Any, load: Callable[..., Any]
) -> Callable[..., Tensor]:
    """A program of a module, as a function of its inputs without lists.

    Args:
        module: holds the weights.
        example, shapes: inputs and dynamic shapes for torch.export.
        load: `load_or_compile`.
    """
    step = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    tensors = step.state_dict | step.constants
    inputs = step.graph_signature.input_specs
    weights = [tensors[spec.target] for spec in inputs if spec.target is not None]
    arguments = (*weights, *tree_leaves(example))
    run = load(step.graph_module, arguments, repr(step.range_constraints)).run
    return lambda *values: run([*weights, *values])[0]


def _example(is_batch: bool, cache: KVCache) -> tuple[Any, ...]:
    """Example inputs of a step, equal for all models of a shape: they plan the threads."""
    B = 4 if is_batch else 1
    seen = min(cache.max_length - 1, 256)
    _, G, _, D = cache.keys[0].shape
    dtype = cache.keys[0].dtype
    keys = [torch.zeros(B, G, seen + 2, D, dtype=dtype) for _ in cache.keys]
    values = [torch.zeros(B, G, seen + 2, D, dtype=dtype) for _ in cache.keys]
    padding = [] if cache.left_padding is None else [torch.zeros(B, dtype=torch.long)]
    return torch.zeros(B, 1, dtype=torch.long), torch.zeros(seen), keys, values, padding


def load_or_compile(
    step: torch.fx.GraphModule,
    example: tuple[Tensor, ...],
    ranges: str,
    folder: Path | None,
    on_compile: Callable[[], None],
) -> Any:
    """Load the stored program of an identical step on an identical machine, or compile a new one.

    Args:
        step: the exported operations.
        example: inputs of the step, weights first.
        ranges: of its dynamic sizes.
        folder, on_compile: as in `compile_steps`.
    Raises:
        UserError: the compiler failed.
    """
    open_library = torch._C._aoti.AOTIModelContainerRunnerCpu
    source = step.print_readable(print_output=False, include_stride=True)
    code = [line for line in source.splitlines() if not line.lstrip().startswith("#")]
    sizes = [(tuple(tensor.shape), tensor.dtype) for tensor in example]
    machine = torch.__version__, torch.get_num_threads(), processor(), OPTIONS
    key = [*machine, ranges, sizes, *code]
    stored = folder and folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.so"
    with suppress(OSError, RuntimeError):  # missing, or not loadable here: replaced below
        if stored and _is_own(stored):
            return open_library(str(stored), 1)
    on_compile()
    try:
        library = Path(str(torch._inductor.aot_compile(step, example, options=compile_options())))
    except (CppCompileError, InductorError) as e:
        output = getattr(e, "output", None) or str(e).split("\n\n")[0]
        reason = one_line(output.strip().splitlines()[-1], MAX_REASON)
        raise UserError(f"compiling a step failed: {reason}; leave out --compile", RESOURCES) from e
    if stored:
        with suppress(UserError):  # not stored: the next start compiles again
            atomic_write(stored, library.read_bytes())
    return open_library(str(library), 1)


def _is_own(path: Path) -> bool:
    """Whether this user owns a file; programs of other users are not run."""
    return path.stat().st_uid == os.getuid() if hasattr(os, "getuid") else path.exists()
