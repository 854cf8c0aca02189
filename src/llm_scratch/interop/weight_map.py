"""Weight maps: which tensors of another format are which parameters of a model, in both directions.

A map is a sequence of rules, each with the name of a parameter here, the name of the tensor there,
and how its layout differs:

    Rule("trf_blocks.#.att.W_{query,key,value}.weight", "h.#.attn.c_attn.weight", TRANSPOSED)

`#` is the number of a layer, and several names in braces are one tensor there. No code here depends
on an architecture: names and shapes come from the model, built without memory.
Tests: tests/interop/test_gpt2_weight_map.py, and those of each format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from llm_scratch.architectures import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.safetensors import Entry
from llm_scratch.model import LanguageModel, build
from llm_scratch.model.quantized import QuantizedLinear

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Transform(NamedTuple):
    """A difference of layout, in both directions; works on arrays of numpy too."""

    to_ours: Callable[[Any], Any]
    to_theirs: Callable[..., Any]
    splits: bool = False
    """whether `to_ours` returns a tensor for each parameter of the rule, and `to_theirs` takes
    them; else the parameters are equal parts of one tensor, one after the other
    """


SAME = Transform(lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Transform(lambda matrix: matrix.T, lambda matrix: matrix.T)
"""A matrix is [in, out] there."""


def in_groups(groups: int, *sizes: int) -> Transform:
    """Rows there are in groups, such as heads, each with some rows of every parameter.

    Args:
        groups: how many there are.
        sizes: rows of each parameter in a group.
    """

    def to_ours(tensor: Tensor) -> list[Tensor]:
        return [part.flatten(0, 1) for part in tensor.unflatten(0, (groups, -1)).split(sizes, 1)]

    def to_theirs(*parts: Tensor) -> Tensor:
        return torch.cat([part.unflatten(0, (groups, -1)) for part in parts], 1).flatten(0, 1)

    return Transform(to_ours, to_theirs, splits=True)


class Rule(NamedTuple):
    """A parameter here, the tensor there ("": the format has none), and how layouts differ."""

    ours: str
    theirs: str
    transform: Transform = SAME


class Mapped(NamedTuple):
    """A rule for a certain layer: a tensor of the format, and the parameters that it holds."""

    theirs: str
    ours: tuple[str, ...]
    transform: Transform

    def split(self, tensor: Any) -> dict[str, Any]:
        """Split the tensor of the format into our parameters by name: views, not copies."""
        whole = self.transform.to_ours(tensor)
        if self.transform.splits:
            return dict(zip(self.ours, whole, strict=True))
        size = len(whole) // len(self.ours)
        return {name: whole[i * size : (i + 1) * size] for i, name in enumerate(self.ours)}

    def join(self, state: Mapping[str, Tensor]) -> Tensor:
        """Concatenate our parameters to the tensor of the format; a bias we do not have is 0."""
        parts = [
            state[name] if name in state else torch.zeros(_bias_length(name, state))
            for name in self.ours
        ]
        if self.transform.splits:
            return self.transform.to_theirs(*parts)
        return self.transform.to_theirs(parts[0] if len(parts) == 1 else torch.cat(parts))


def _bias_length(bias: str, state: Mapping[str, Tensor]) -> int:
    """The length of a bias: the number of rows of its matrix."""
    return len(state[bias.removesuffix("bias") + "weight"])


def expand(rules: Sequence[Rule], n_layers: int) -> Iterator[Mapped]:
    """Apply rules to every layer, in a model's order: neighboring rules with `#` are one layer."""
    for of_layers, group in groupby(rules, lambda rule: "#" in rule.ours):
        block = list(group)
        for layer in range(n_layers) if of_layers else [0]:
            for rule in block:
                names = spelled_out(rule.ours.replace("#", str(layer)))
                yield Mapped(rule.theirs.replace("#", str(layer)), tuple(names), rule.transform)


def name_check(rules: Sequence[Rule], n_layers: int) -> Callable[[str], bool]:
    """Make a function that says whether a rule names a tensor, without a list of every layer's.

    A hostile config.json may claim millions of layers. The first number of a name is its layer's.
    """
    theirs = {rule.theirs for rule in rules}

    def is_named(name: str) -> bool:
        layer = re.search(r"\b[0-9]{1,9}\b", name)
        if name in theirs or layer is None:
            return name in theirs
        any_layer = name[: layer.start()] + "#" + name[layer.end() :]
        return any_layer in theirs and int(layer[0]) < n_layers

    return is_named


def spelled_out(name: str) -> list[str]:
    """Expand a name with {a,b} into one name for each."""
    braces = re.search(r"\{(.*)\}", name)
    return [name.replace(braces[0], part) for part in braces[1].split(",")] if braces else [name]


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
        """Read a tensor into new memory."""
        ...


class Origin(NamedTuple):
    """Where tensors come from, for errors."""

    where: object
    """the file or folder"""
    config_file: str
    """what the settings come from, such as "config.json" """

    def of(self, tensor: TensorInfo) -> object:
        """The file of a tensor, if known; else `where`."""
        return tensor.file if isinstance(tensor, Entry) else self.where


def assemble(
    cfg: ModelConfig,
    source: Source,
    rules: Sequence[Rule],
    origin: Origin,
    absent: Collection[str] = (),
    prefix: str = "",
) -> LanguageModel:
    """Build a model from a source of tensors: check names and shapes, then read one by one.

    Args:
        cfg: the model's settings.
        source: the tensors.
        rules: their names and layouts.
        origin: for errors.
        absent: optional tensors, by our names without the layer (`norm1.shift`);
            if missing, they are 0.
        prefix: prefix of every name in the source.
    Raises:
        UserError: a tensor is missing, unknown,
            of another shape or type, or not finite; names it (code 4).
    """
    model, todo = match_tensors(cfg, source.tensors, rules, origin, absent, prefix)
    own = named_tensors(model).keys()
    for mapped in todo:
        if not mapped.theirs:
            set_parameters(
                model, {name: torch.zeros(model.get_parameter(name).shape) for name in mapped.ours}
            )
            continue
        tensor = read(source, mapped.theirs, origin)
        file = origin.of(source.tensors[mapped.theirs])
        if mapped.ours[0] in own:
            set_parameters(model, mapped.split(tensor))
        elif (tied := _shared_parameter(model, mapped.ours[0])) is None:
            if tensor.any():
                raise UserError(
                    f"{file}: {mapped.theirs} is not 0, but {origin.config_file} has no such bias",
                    CHECKPOINT,
                )
        elif not torch.equal(tensor, tied.to(tensor.dtype)):
            raise UserError(
                f"{file}: {mapped.theirs} differs from the token embedding,"
                f" but {origin.config_file} ties them",
                CHECKPOINT,
            )
    return model


def match_tensors(
    cfg: ModelConfig,
    available: Mapping[str, TensorInfo],
    rules: Sequence[Rule],
    origin: Origin,
    absent: Collection[str] = (),
    prefix: str = "",
) -> tuple[LanguageModel, list[Mapped]]:
    """Match the tensors of a source to our parameters; all names and shapes must be there.

    Returns:
        The model without memory, and what to read into it;
        a name of "" means 0. See `assemble`.
    """
    _check_layers(cfg.n_layers, available, rules, origin, prefix)
    with torch.device("meta"):
        model = build(cfg)
    own = {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}
    todo, known = [], set()
    for mapped in expand(rules, cfg.n_layers):
        name = prefix + mapped.theirs if mapped.theirs else ""
        known.add(name)
        if name in available:
            _check_tensor(name, available[name], mapped, own, origin)
            todo.append(mapped._replace(theirs=name))
        elif mapped.ours[0] not in own:
            continue  # absent in both
        elif not name or re.sub(r"trf_blocks\.\d+\.", "", mapped.ours[0]) in absent:
            todo.append(mapped._replace(theirs=""))
        else:
            raise _missing(name, origin)
    if extra := sorted(name for name in available if name.startswith(prefix) and name not in known):
        file = origin.of(available[extra[0]])
        raise UserError(
            f"{file}: unknown tensor {extra[0]}, for which {origin.config_file} has no place",
            CHECKPOINT,
        )
    return model, todo


def _check_layers(
    n_layers: int, available: Collection[str], rules: Sequence[Rule], origin: Origin, prefix: str
) -> None:
    """Check that every layer has a tensor, before the model is built."""
    names = [prefix + rule.theirs for rule in rules if "#" in rule.theirs]
    for layer in map(str, range(n_layers)):
        if not any(name.replace("#", layer) in available for name in names):
            raise _missing(names[0].replace("#", layer), origin)


def _missing(name: str, origin: Origin) -> UserError:
    return UserError(
        f"{origin.where}: {name} is missing, which {origin.config_file} requires", CHECKPOINT
    )


def _check_tensor(
    name: str,
    tensor: TensorInfo,
    mapped: Mapped,
    own: Mapping[str, tuple[int, ...]],
    origin: Origin,
) -> None:
    """Check type and shape of a tensor."""
    if tensor.dtype not in FLOATS:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"{origin.of(tensor)}: {name} holds {dtype}; expected float32", CHECKPOINT)
    if mapped.ours[0] not in own:
        return
    state = {part: torch.empty(own[part], device="meta") for part in mapped.ours}
    has, want = tuple(tensor.shape), tuple(mapped.join(state).shape)
    if has != want:
        raise UserError(
            f"{origin.of(tensor)}: {name} is {has}, by {origin.config_file} it is {want}",
            CHECKPOINT,
        )


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a file of a model holds: its parameters, a tied head only once, and saved buffers."""
    saved = model.state_dict()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return dict(model.named_parameters()) | buffers


def check_unquantized(model: nn.Module) -> None:
    """Check that the weights of a model can be written in another format.

    Raises:
        UserError: they are quantized (code 2).
    """
    bits = next((part.bits for part in model.modules() if isinstance(part, QuantizedLinear)), None)
    if bits is not None:
        raise UserError(
            f"the model is quantized to {bits} bits and cannot be exported; export the one that it"
            " was made from"
        )


def _shared_parameter(model: nn.Module, name: str) -> Tensor | None:
    """A parameter that has another name too, such as a tied head, or None."""
    return dict(model.named_parameters(remove_duplicate=False)).get(name)


def read(source: Source, name: str, origin: Origin) -> Tensor:
    """Read a tensor and check that it is finite (by its minimum and maximum, without a copy)."""
    tensor = source.read(name)
    if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
        raise UserError(
            f"{origin.of(source.tensors[name])}: {name} has values that are not finite", CHECKPOINT
        )
    return tensor


def set_parameters(model: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Set parameters of a model, as float32 in new memory; a tied head stays tied."""
    tied = model.head_is_tied
    for name, tensor in tensors.items():
        values = tensor.to(torch.float32).contiguous()
        # a view would keep all of its storage alive
        if values.untyped_storage().nbytes() > values.nbytes:
            values = values.clone()
        module, _, leaf = name.rpartition(".")
        part = model.get_submodule(module)
        setattr(part, leaf, values if leaf in part._buffers else nn.Parameter(values))
    if tied:
        model.out_head.weight = model.tok_emb.weight
