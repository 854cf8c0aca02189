"""Load OpenAI's GPT-2 release of 2019, without TensorFlow.

    settings, params = download_and_load_gpt2("124M", "gpt2")  # as the notebooks: a dict of arrays
    load_weights_into_gpt(gpt, params)                         # ... copied into a model
    model, tokenizer = load_gpt2("gpt2/124M")                  # half the memory: tensor by tensor

The release stores a matrix as [in, out], PyTorch as [out, in]; it has one matrix for query, key and
value, we have three; its head is the token embedding. Weight map: interop/gpt2_weight_map.py.
Tests: tests/interop/test_openai.py (every parameter, and logits equal to transformers').
The file format: interop/tensorflow.py.
Source: https://github.com/openai/gpt-2 (src/model.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.architectures import GPTConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import EMBEDDING, HEAD, OPENAI
from llm_scratch.interop.hf_family import positive_integers
from llm_scratch.interop.openai_files import find_or_download
from llm_scratch.interop.tensorflow import TFCheckpointReader, Variable
from llm_scratch.interop.weight_map import (
    SAME,
    Mapped,
    Origin,
    TensorSpec,
    assemble,
    expand,
    match_tensors,
    read,
)
from llm_scratch.model import LanguageModel
from llm_scratch.tokenizers.bpe import ByteBPE

Array = np.ndarray[Any, np.dtype[Any]]

model_configs = {
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
"""The four sizes; all have 50,257 tokens, 1,024 positions, and query, key and value biases."""
KEYS = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
PREFIX = "model/"  # prefix of every tensor name in the file


def download_and_load_gpt2(
    model_size: str = "124M", models_dir: str | Path = "gpt2"
) -> tuple[dict[str, int], dict[str, Any]]:
    """Load GPT-2's settings and weights, downloading them once if necessary.

    OpenAI publishes no hashes:
    the size reported by the server is checked, and the checksum of each tensor.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: the parent of the folder of that size.
    Returns:
        settings {n_vocab, n_ctx, n_embd, n_head, n_layer}, and params as returned by
        `load_gpt2_params_from_tf_ckpt`.
    Raises:
        UserError: unknown size (code 2), download failed (code 3),
            damaged (code 4), disk full (code 6).
    """
    folder = find_or_download(model_size, models_dir)
    settings = read_settings(folder)
    return settings, load_gpt2_params_from_tf_ckpt(folder / "model.ckpt", settings)


def read_settings(folder: str | Path) -> dict[str, int]:
    """Read the shape of a released model from its `hparams.json`.

    Raises:
        UserError: missing file, or not five consistent integers (code 4).
    """
    path = Path(folder) / "hparams.json"
    try:
        hparams = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: hparams[key] for key in KEYS}
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror}; expected the settings of a GPT-2 release",
            CHECKPOINT,
        ) from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(
            f"{path} is not a JSON object with {', '.join(KEYS)} ({type(e).__name__});"
            " download it again",
            CHECKPOINT,
        ) from None
    settings = positive_integers(settings, path, {key: key for key in KEYS})
    if settings["n_embd"] % settings["n_head"]:
        raise UserError(
            f"{path}: n_embd={settings['n_embd']} is not a multiple of n_head={settings['n_head']}",
            CHECKPOINT,
        )
    return settings


def load_gpt2_params_from_tf_ckpt(path: str | Path, settings: Mapping[str, int]) -> dict[str, Any]:
    """Read the weights of a TensorFlow checkpoint as a tree of arrays, with OpenAI's names.

    Args:
        path: the checkpoint's path without `.index`, e.g. "gpt2/124M/model.ckpt".
        settings: content of `hparams.json`.
    Returns:
        {"wte" [n_vocab, n_embd], "wpe" [n_ctx, n_embd], "g", "b" (the last norm), "blocks": a list
        with, for each layer, {"attn": {"c_attn": {"w" [in, out], "b"}, "c_proj": ...}, "mlp":
        {"c_fc": ..., "c_proj": ...}, "ln_1": {"g", "b"}, "ln_2": ...}}.
    Raises:
        UserError: a tensor is missing, unknown,
            of another shape or type, damaged or not finite (code 4).
    """
    source, origin = TFTensorSource(Path(path)), Origin(path, "hparams.json")
    _, todo = match_tensors(config_of(settings), source.tensors, OPENAI, origin, prefix=PREFIX)
    params: dict[str, Any] = {"blocks": [{} for _ in range(settings["n_layer"])]}
    for name, *_ in todo:
        *path_to_node, leaf = _tree_path(name.removeprefix(PREFIX))
        node: Any = params
        for key in path_to_node:
            node = (
                node[key] if isinstance(key, int) or key == "blocks" else node.setdefault(key, {})
            )
        node[leaf] = read(source, name, origin).numpy()
    return params


def assign(left: Tensor, right: Array | Tensor) -> nn.Parameter:
    """Make a parameter with the values of `right`, and the dtype and device of `left`.

    Raises:
        ValueError: the shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {right.shape}")
    if isinstance(right, Tensor):
        values = right.detach().clone()
    else:
        values = torch.from_numpy(np.array(right, order="C"))
    device = "cpu" if left.is_meta else left.device  # a "meta" tensor has no values
    return nn.Parameter(values.to(device, left.dtype))


def load_weights_into_gpt(gpt: nn.Module, params: Mapping[str, Any]) -> None:
    """Load the weights from `download_and_load_gpt2` into a GPTModel: all, or none on an error.

    With tied embeddings (tie_embeddings=True) the head stays tied;
    otherwise it gets a copy, as in the notebooks.

    Raises:
        ValueError: a shape differs; names both shapes and the parameter.
        UserError: a missing tensor, or another number of layers (code 4).
    """
    n_layers = len(list(gpt.get_submodule("trf_blocks").children()))
    n_blocks = len(params.get("blocks", ()))
    if n_layers != n_blocks:
        raise UserError(
            f"the weights have {n_blocks} layers and the model {n_layers};"
            f" build it with n_layers={n_blocks}",
            CHECKPOINT,
        )
    tied = gpt.get_parameter(HEAD) is gpt.get_parameter(EMBEDDING)
    todo = [mapped for mapped in expand(OPENAI, n_layers) if mapped.theirs] + (
        [] if tied else [Mapped("wte", (HEAD,), SAME)]
    )
    parts = {
        own: part
        for mapped in todo
        for own, part in mapped.split(_concat(params, mapped.theirs, mapped.ours)).items()
    }
    for own, part in parts.items():
        try:
            left = gpt.get_parameter(own)
        except AttributeError:
            hint = "qkv_bias=True" if own.endswith("bias") else "GPTModel"
            raise UserError(
                f"the model has no {own}, which the weights have; build it with {hint}", CHECKPOINT
            ) from None
        if left.shape != part.shape:
            raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {part.shape} ({own})")
    for own, part in parts.items():
        module, _, leaf = own.rpartition(".")
        setattr(gpt.get_submodule(module), leaf, assign(gpt.get_parameter(own), part))
    if tied:
        gpt.get_submodule("out_head").weight = gpt.get_parameter(EMBEDDING)


def load_gpt2(folder: str | Path) -> tuple[LanguageModel, ByteBPE]:
    """Load the model and tokenizer of a release folder, with tied embeddings as in OpenAI's model.

    Weights are read one tensor at a time to save memory.

    Raises:
        UserError: files missing, damaged or inconsistent (code 4; for the tokenizer, code 3).
    """
    folder = Path(folder)
    settings, source = read_settings(folder), TFTensorSource(folder / "model.ckpt")
    tokenizer = ByteBPE.from_gpt2_files(folder / "vocab.bpe", folder / "encoder.json")
    if tokenizer.n_vocab > settings["n_vocab"]:
        raise UserError(
            f"{folder}: encoder.json has {tokenizer.n_vocab} tokens and the model"
            f" {settings['n_vocab']}",
            CHECKPOINT,
        )
    origin = Origin(folder / "model.ckpt", "hparams.json")
    return assemble(config_of(settings), source, OPENAI, origin, prefix=PREFIX), tokenizer


def gpt2_config(size: str) -> GPTConfig:
    """The shape of a size of GPT-2, such as "124M"."""
    (shape,) = (shape for name, shape in model_configs.items() if size in name)
    return GPTConfig.of({**shape, "qkv_bias": True, "tie_embeddings": True})


def config_of(settings: Mapping[str, int]) -> GPTConfig:
    """Convert the five settings of a release to a ModelConfig."""
    V, T, C, H, layers = (settings[key] for key in KEYS)
    return GPTConfig(V, T, C, n_heads=H, n_layers=layers, qkv_bias=True, tie_embeddings=True)


class TFTensorSource:
    """A TensorFlow checkpoint as a source of torch tensors; a matrix [1, in, out] is [in, out]."""

    def __init__(self, path: Path) -> None:
        self.file = TFCheckpointReader(path)
        self.tensors = {
            name: self._spec(variable) for name, variable in self.file.variables.items()
        }

    def _spec(self, variable: Variable) -> TensorSpec:
        """Type and shape of a variable; the type is `torch.bool` if torch has none like it."""
        dtype = getattr(torch, str(variable.dtype), torch.bool)
        shape = variable.shape
        return TensorSpec(dtype, shape[1:] if len(shape) == 3 and shape[0] == 1 else shape)

    def read(self, name: str) -> Tensor:
        """Read a tensor."""
        return torch.from_numpy(self.file.read(name)).reshape(self.tensors[name].shape)


def _tree_path(name: str) -> list[str | int]:
    """Path of a tensor in `params`: "h3/ln_1/g" -> ["blocks", 3, "ln_1", "g"]."""
    if not name.startswith("h"):
        return [name.rpartition("/")[2]]
    layer, *rest = name.split("/")
    return ["blocks", int(layer[1:]), *rest]


def _find(params: Mapping[str, Any], name: str) -> Array:
    at: Any = params
    try:
        for step in _tree_path(name):
            at = at[step]
    except (KeyError, IndexError, TypeError):
        raise UserError(
            f"the weights have no {name}; expected a tree as download_and_load_gpt2 gives it",
            CHECKPOINT,
        ) from None
    return np.asarray(at)


def _concat(params: Mapping[str, Any], name: str, ours: tuple[str, ...]) -> Array:
    """Get a tensor of the tree; checks that a fused one can be split into `ours`."""
    array = _find(params, name)
    if not array.ndim or array.shape[-1] % len(ours):
        raise ValueError(
            f"Shape mismatch. {name} is {array.shape}; expected query, key and value side by side"
        )
    return array
