"""Weight map of GPT-2: names and layouts of its tensors in each format, for import and export.

Three things differ: the names (`TABLE`), the fused query, key and value tensor that is three tensors here,
and the layout of a matrix: OpenAI and Hugging Face store [in, out], PyTorch, nanoGPT and litgpt [out, in].
Tests: tests/interop/test_gpt2_weight_map.py, test_openai.py, test_hf.py, test_import.py: bit-equal tensors, equal logits.
Source: https://github.com/openai/gpt-2 (src/model.py) and the model files of transformers, nanoGPT and litgpt.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.safetensors import Entry
from llm_scratch.model import build

TABLE = """
    here                                         OpenAI            Hugging Face, nanoGPT   litgpt
    tok_emb.weight                               wte               wte.weight              wte.weight
    pos_emb.weight                               wpe               wpe.weight              -
    trf_blocks.#.norm1.scale                     h#/ln_1/g         h.#.ln_1.weight         h.#.norm_1.weight
    trf_blocks.#.norm1.shift                     h#/ln_1/b         h.#.ln_1.bias           h.#.norm_1.bias
    trf_blocks.#.att.W_{query,key,value}.weight  h#/attn/c_attn/w  h.#.attn.c_attn.weight  h.#.attn.qkv.weight
    trf_blocks.#.att.W_{query,key,value}.bias    h#/attn/c_attn/b  h.#.attn.c_attn.bias    h.#.attn.qkv.bias
    trf_blocks.#.att.out_proj.weight             h#/attn/c_proj/w  h.#.attn.c_proj.weight  h.#.attn.proj.weight
    trf_blocks.#.att.out_proj.bias               h#/attn/c_proj/b  h.#.attn.c_proj.bias    h.#.attn.proj.bias
    trf_blocks.#.norm2.scale                     h#/ln_2/g         h.#.ln_2.weight         h.#.norm_2.weight
    trf_blocks.#.norm2.shift                     h#/ln_2/b         h.#.ln_2.bias           h.#.norm_2.bias
    trf_blocks.#.ff.layers.0.weight              h#/mlp/c_fc/w     h.#.mlp.c_fc.weight     h.#.mlp.fc.weight
    trf_blocks.#.ff.layers.0.bias                h#/mlp/c_fc/b     h.#.mlp.c_fc.bias       h.#.mlp.fc.bias
    trf_blocks.#.ff.layers.2.weight              h#/mlp/c_proj/w   h.#.mlp.c_proj.weight   h.#.mlp.proj.weight
    trf_blocks.#.ff.layers.2.bias                h#/mlp/c_proj/b   h.#.mlp.c_proj.bias     h.#.mlp.proj.bias
    final_norm.scale                             ln_f/g            ln_f.weight             ln_f.weight
    final_norm.shift                             ln_f/b            ln_f.bias               ln_f.bias
    out_head.weight                              -                 lm_head.weight          lm_head.weight
"""
ROWS = [re.split(r"\s{2,}", line.strip()) for line in TABLE.strip().splitlines()[1:]]
HEAD, EMBEDDING = "out_head.weight", "tok_emb.weight"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
X = TypeVar("X", bound="np.ndarray[Any, Any] | Tensor")


class Layout(NamedTuple):
    """A format: its column in `TABLE`, and whether its matrices are transposed ([in, out])."""

    column: int
    transposed: bool


OPENAI, HF, NANOGPT, LITGPT = Layout(1, True), Layout(2, True), Layout(2, False), Layout(3, False)


class TensorInfo(Protocol):
    """Type and shape of a tensor: an `Entry` of a file, a `TensorSpec`, or a tensor itself."""

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...


class TensorSpec(NamedTuple):
    """A type and a shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Source(Protocol):
    """A collection of tensors that can be read one by one."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> type and shape."""
        ...

    def read(self, name: str) -> Tensor:
        """Read a tensor into memory of its own."""
        ...


def names(layout: Layout, n_layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Iterate over (name in the format, our names), for example
    ("h.0.attn.c_attn.weight", ("trf_blocks.0.att.W_query.weight", ...)), from embedding to head.

    The name of a tensor that the format does not have is "".
    """
    inner = [i for i, row in enumerate(ROWS) if "#" in row[0]]
    before, block, after = ROWS[: inner[0]], ROWS[inner[0] : inner[-1] + 1], ROWS[inner[-1] + 1 :]
    layers = ((row, str(layer)) for layer in range(n_layers) for row in block)
    for row, layer in chain(((row, "") for row in before), layers, ((row, "") for row in after)):
        theirs = "" if row[layout.column] == "-" else row[layout.column].replace("#", layer)
        yield theirs, tuple(name.replace("#", layer) for name in _spelled_out(row[0]))


def biases(with_shifts: bool) -> set[str]:
    """Our names, without the layer, of all biases; `with_shifts`: including those of the norms."""
    ends = (".bias", ".shift") if with_shifts else (".bias",)
    return {name.removeprefix("trf_blocks.#.") for row in ROWS for name in _spelled_out(row[0]) if name.endswith(ends)}


def _spelled_out(name: str) -> list[str]:
    """Expand a name with {a,b} into one name for each."""
    braces = re.search(r"\{(.*)\}", name)
    return [name.replace(braces[0], part) for part in braces[1].split(",")] if braces else [name]


def shape(name: str, cfg: ModelConfig) -> tuple[int, ...]:
    """The shape of one of our parameters, by formula, without allocating memory."""
    C = cfg.emb_dim
    rows = {EMBEDDING: cfg.vocab_size, HEAD: cfg.vocab_size, "pos_emb.weight": cfg.context_length}
    if name in rows:
        return rows[name], C
    n_out, n_in = 4 * C if ".layers.0." in name else C, 4 * C if ".layers.2." in name else C
    return (n_out, n_in) if name.endswith("weight") else (n_out,)


def their_shape(ours: tuple[str, ...], cfg: ModelConfig, layout: Layout) -> tuple[int, ...]:
    """The shape of the tensor of a format that contains these parameters of ours."""
    first, *rest = shape(ours[0], cfg)
    whole = (first * len(ours), *rest)
    return whole[::-1] if _transposed(ours, layout) else whole


def _transposed(ours: tuple[str, ...], layout: Layout) -> bool:
    return layout.transposed and ours[0].startswith("trf_blocks.") and ours[0].endswith("weight")


def split(ours: tuple[str, ...], tensor: X, layout: Layout) -> dict[str, X]:
    """Split a tensor of a format into our parameters by name: views, not copies."""
    whole: Any = tensor.T if _transposed(ours, layout) else tensor
    size = len(whole) // len(ours)
    return {name: whole[i * size : (i + 1) * size] for i, name in enumerate(ours)}


def join(state: Mapping[str, Tensor], ours: tuple[str, ...], layout: Layout) -> Tensor:
    """Concatenate our parameters to the tensor of a format; a bias that we do not have is 0."""
    parts = [state[name] if name in state else torch.zeros(_bias_length(name, state)) for name in ours]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole.T if _transposed(ours, layout) else whole


def _bias_length(bias: str, state: Mapping[str, Tensor]) -> int:
    """The length of a bias: the number of rows of its matrix."""
    return len(state[bias.removesuffix("bias") + "weight"])


def assemble(
    cfg: ModelConfig, source: Source, layout: Layout, where: object, config_file: str, absent: Collection[str] = (), prefix: str = ""
) -> nn.Module:
    """Build a model from a source of tensors: check all names and shapes, then read tensor by tensor.

    Args:
        cfg: the model's shape.
        source: the tensors.
        layout: their format.
        where: the file or folder, for errors.
        config_file: the file that the settings come from, for errors.
        absent: optional tensors, by our names without the layer (`norm1.shift`); if missing, they are 0.
        prefix: prefix of every name in the source except the head's.
    Raises:
        UserError: a tensor is missing, unknown, of another shape or type, or not finite; names it (code 4).
    """
    todo = match_tensors(cfg, source.tensors, layout, where, config_file, absent, prefix)
    with torch.device("meta"):  # shapes only: no memory, no initialization
        model = build(cfg)
    for theirs, ours in todo:
        if not theirs:
            set_parameters(model, {name: torch.zeros(shape(name, cfg)) for name in ours})
            continue
        tensor = read(source, theirs, where)
        if ours == (HEAD,) and cfg.tie_embeddings:
            if not torch.equal(tensor, model.get_parameter(EMBEDDING).to(tensor.dtype)):
                raise UserError(
                    f"{_file_of(source.tensors, theirs, where)}: {theirs} differs from the token embedding, but {config_file} ties them",
                    CHECKPOINT,
                )
        elif _bias_of_qkv(ours) and not cfg.qkv_bias:
            if tensor.any():
                raise UserError(
                    f"{_file_of(source.tensors, theirs, where)}: {theirs} is not 0, but {config_file} has no such bias", CHECKPOINT
                )
        else:
            set_parameters(model, split(ours, tensor, layout))
    return model


def read(source: Source, name: str, where: object) -> Tensor:
    """Read a tensor and check that it is finite (by its minimum and maximum, without a copy)."""
    tensor = source.read(name)
    if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
        raise UserError(f"{_file_of(source.tensors, name, where)}: {name} has values that are not finite", CHECKPOINT)
    return tensor


def _file_of(found: Mapping[str, TensorInfo], name: str, where: object) -> object:
    """The file of a tensor, if known; else `where`."""
    known = found[name]
    return known.file if isinstance(known, Entry) else where


def match_tensors(
    cfg: ModelConfig,
    found: Mapping[str, TensorInfo],
    layout: Layout,
    where: object,
    config_file: str,
    absent: Collection[str] = (),
    prefix: str = "",
) -> list[tuple[str, tuple[str, ...]]]:
    """Match the tensors of a source to our parameters, and check that names and shapes are complete.

    Returns pairs (name in the source, our names); the name "" stands for 0. See `assemble`.
    """
    todo, known = [], set()
    for name, ours in names(layout, cfg.n_layers):
        theirs = name if ours == (HEAD,) else prefix + name
        known.add(theirs)
        if name and theirs in found:
            has, want = tuple(found[theirs].shape), their_shape(ours, cfg, layout)
            if has != want:
                raise UserError(f"{_file_of(found, theirs, where)}: {theirs} is {has}, by {config_file} it is {want}", CHECKPOINT)
            if found[theirs].dtype not in FLOATS:
                raise UserError(f"{_file_of(found, theirs, where)}: {theirs} holds {_dtype(found[theirs])}; expected float32", CHECKPOINT)
            todo.append((theirs, ours))
        elif ours == (HEAD,) and cfg.tie_embeddings or _bias_of_qkv(ours) and not cfg.qkv_bias:
            continue  # absent in both
        elif not name or re.sub(r"trf_blocks\.\d+\.", "", ours[0]) in absent:
            todo.append(("", ours))
        else:
            raise UserError(f"{where}: {theirs} is missing, which {config_file} asks for", CHECKPOINT)
    if extra := sorted(name for name in found if name.startswith(prefix) and name not in known):
        raise UserError(f"{_file_of(found, extra[0], where)}: unknown tensor {extra[0]}, for which {config_file} has no place", CHECKPOINT)
    return todo


def _bias_of_qkv(ours: tuple[str, ...]) -> bool:
    return ours[0].endswith("W_query.bias")


def _dtype(tensor: TensorInfo) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def set_parameters(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set parameters of a model, as float32 in memory of their own; a tied head stays tied."""
    tied = model.get_parameter(HEAD) is model.get_parameter(EMBEDDING)
    for name, tensor in tensors.items():
        values = tensor.to(torch.float32).contiguous()
        if values.untyped_storage().nbytes() > values.nbytes:  # a view would keep all of its storage alive
            values = values.clone()
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, nn.Parameter(values))
    if tied:
        model.get_submodule("out_head").weight = model.get_parameter(EMBEDDING)
