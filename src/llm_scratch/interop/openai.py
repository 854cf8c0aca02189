"""OpenAI's GPT-2, as published in 2019, in our model, without TensorFlow.

    settings, params = download_and_load_gpt2("124M", "gpt2")     # the notebooks' way: a dict of arrays, then copied into a model
    load_weights_into_gpt(gpt, params)
    model, tokenizer = load_gpt2("gpt2/124M")                     # one tensor at a time: half the memory

The release keeps a matrix as [in, out], we and PyTorch as [out, in]; it has one matrix for query, key and value, we have three; its head
is the token embedding. `TOP` and `BLOCK` are the whole map of names.
Proof: tests/interop/test_openai.py (every parameter, and logits equal to transformers'). The file format: interop/tensorflow.py.
Source: https://github.com/openai/gpt-2 (src/model.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.openai_files import release
from llm_scratch.interop.tensorflow import Checkpoint
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers.bpe import ByteBPE

Array = np.ndarray[Any, np.dtype[Any]]

model_configs = {
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
"""What distinguishes the four sizes; all have 50,257 tokens, 1,024 positions and query, key and value biases."""
KEYS = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")

TOP = {
    "wte": ("tok_emb.weight", "out_head.weight"),
    "wpe": ("pos_emb.weight",),
    "ln_f/g": ("final_norm.scale",),
    "ln_f/b": ("final_norm.shift",),
}
"""The release's name -> ours; a tuple of two is the same tensor twice."""
BLOCK = {
    "ln_1/g": ("norm1.scale",),
    "ln_1/b": ("norm1.shift",),
    "attn/c_attn/w": ("att.W_query.weight", "att.W_key.weight", "att.W_value.weight"),
    "attn/c_attn/b": ("att.W_query.bias", "att.W_key.bias", "att.W_value.bias"),
    "attn/c_proj/w": ("att.out_proj.weight",),
    "attn/c_proj/b": ("att.out_proj.bias",),
    "ln_2/g": ("norm2.scale",),
    "ln_2/b": ("norm2.shift",),
    "mlp/c_fc/w": ("ff.layers.0.weight",),
    "mlp/c_fc/b": ("ff.layers.0.bias",),
    "mlp/c_proj/w": ("ff.layers.2.weight",),
    "mlp/c_proj/b": ("ff.layers.2.bias",),
}
"""The same for what each layer has, behind `h0/` there and `trf_blocks.0.` here; a tuple of three is cut from one tensor."""


def download_and_load_gpt2(model_size: str = "124M", models_dir: str | Path = "gpt2") -> tuple[dict[str, int], dict[str, Any]]:
    """GPT-2's settings and weights; downloaded once if they are not on this machine.

    Nothing pins these files by a hash, for OpenAI gives none: the size announced by the server is checked on the way, and the checksum
    that the checkpoint itself keeps of each tensor when it is read.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: the folder in which the folder of that size is looked for or made.
    Returns:
        settings {n_vocab, n_ctx, n_embd, n_head, n_layer}, and params as `load_gpt2_params_from_tf_ckpt` gives them.
    Raises:
        UserError: no such size (code 2), not here and no network (code 3), damaged (code 4), no space (code 6).
    """
    folder = release(model_size, models_dir)
    settings = read_settings(folder)
    return settings, load_gpt2_params_from_tf_ckpt(folder / "model.ckpt", settings)


def read_settings(folder: str | Path) -> dict[str, int]:
    """The shape of a released model, from the `hparams.json` in its folder.

    Raises:
        UserError: no such file, or it does not hold five whole numbers that fit together (code 4).
    """
    path = Path(folder) / "hparams.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: found[key] for key in KEYS}
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}; expected the settings of a GPT-2 release", CHECKPOINT) from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"{path} is no JSON object with {', '.join(KEYS)} ({type(e).__name__}); get it again", CHECKPOINT) from None
    for key, value in settings.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{path}: {key} is {str(value)[:40]!r}; expected a whole number from 1 on", CHECKPOINT)
    if settings["n_embd"] % settings["n_head"]:
        raise UserError(f"{path}: n_embd={settings['n_embd']} is not a multiple of n_head={settings['n_head']}", CHECKPOINT)
    return settings


def load_gpt2_params_from_tf_ckpt(path: str | Path, settings: Mapping[str, int]) -> dict[str, Any]:
    """The weights of a TensorFlow checkpoint as a tree of arrays, under OpenAI's names.

    Args:
        path: the checkpoint's path without `.index`, e.g. "gpt2/124M/model.ckpt".
        settings: what `hparams.json` says.
    Returns:
        {"wte" [n_vocab, n_embd], "wpe" [n_ctx, n_embd], "g", "b" (the last norm), "blocks": a list with, for each layer,
        {"attn": {"c_attn": {"w" [in, out], "b"}, "c_proj": ...}, "mlp": {"c_fc": ..., "c_proj": ...}, "ln_1": {"g", "b"}, "ln_2": ...}}.
    Raises:
        UserError: a tensor is missing, unknown, of another shape or type, damaged or not finite (code 4); names file and tensor.
    """
    checkpoint = Checkpoint(path)
    _check(checkpoint, settings)
    params: dict[str, Any] = {"blocks": [{} for _ in range(settings["n_layer"])]}
    for name, array in _tensors(checkpoint, settings["n_layer"]):
        *way, leaf = _way(name)
        at: Any = params
        for step in way:
            at = at[step] if isinstance(step, int) or step == "blocks" else at.setdefault(step, {})
        at[leaf] = array
    return params


def assign(left: Tensor, right: Array | Tensor) -> nn.Parameter:
    """A parameter with the numbers of `right`, once it is sure that they fit where `left` was; dtype and device are `left`'s.

    Raises:
        ValueError: the shapes differ; names both.
    """
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {right.shape}")
    values = right.detach().clone() if isinstance(right, Tensor) else torch.from_numpy(np.array(right, order="C"))
    device = "cpu" if left.is_meta else left.device  # a "meta" tensor is a shape without numbers
    return nn.Parameter(values.to(device, left.dtype))


def load_weights_into_gpt(gpt: nn.Module, params: Mapping[str, Any]) -> None:
    """Give a GPTModel the weights that `download_and_load_gpt2` read: all of them, or, on an error, none.

    A model whose head is its token embedding (tie_embeddings=True) keeps it so; another gets a copy, as the notebooks did.

    Raises:
        ValueError: a shape differs; names both shapes and the parameter.
        UserError: `params` or the model lacks a part, or they differ in layers (code 4).
    """
    n_layers, n_blocks = len(gpt.get_submodule("trf_blocks")), len(params.get("blocks", ()))  # type: ignore[arg-type]
    if n_layers != n_blocks:
        raise UserError(f"the weights have {n_blocks} layers and the model {n_layers}; build it with n_layers={n_blocks}", CHECKPOINT)
    for name in _names(n_layers):
        for ours, part in _ours(name, _find(params, name)).items():
            try:
                left = gpt.get_parameter(ours)
            except AttributeError:
                hint = "qkv_bias=True" if ours.endswith("bias") else "GPTModel"
                raise UserError(f"the model has no {ours}, which the weights have; build it with {hint}", CHECKPOINT) from None
            if left.shape != part.shape:
                raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {part.shape} ({ours})")
    for name in _names(n_layers):
        _set(gpt, name, _find(params, name))


def load_gpt2(folder: str | Path) -> tuple[GPTModel, ByteBPE]:
    """The model and the tokenizer of a release that lies in a folder, with the head tied as OpenAI's is.

    Weights go from the file into the model one by one, so that there is never more than one tensor besides the model.

    Raises:
        UserError: a file is missing or damaged, or they do not belong together (code 3 the tokenizer's, code 4 the others).
    """
    folder = Path(folder)
    settings, checkpoint = read_settings(folder), Checkpoint(folder / "model.ckpt")
    _check(checkpoint, settings)
    tokenizer = ByteBPE.from_gpt2_files(folder / "vocab.bpe", folder / "encoder.json")
    if tokenizer.n_vocab > settings["n_vocab"]:
        raise UserError(f"{folder}: encoder.json has {tokenizer.n_vocab} tokens and the model {settings['n_vocab']}", CHECKPOINT)
    with torch.device("meta"):  # shapes alone, no memory, no random numbers
        model = GPTModel(config_of(settings))
    for name, array in _tensors(checkpoint, settings["n_layer"]):
        _set(model, name, array)
    return model, tokenizer


def config_of(settings: Mapping[str, int]) -> ModelConfig:
    """Our words for the five settings of a release."""
    V, T, C, H, layers = (settings[key] for key in KEYS)
    return ModelConfig(V, T, C, n_heads=H, n_layers=layers, qkv_bias=True, tie_embeddings=True)


def _names(n_layers: int) -> Iterator[str]:
    """Every tensor of a release, without the `model/` before each."""
    yield from TOP
    for layer in range(n_layers):
        yield from (f"h{layer}/{name}" for name in BLOCK)


def _shape(name: str, settings: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor in the file; a matrix is there a convolution of width 1."""
    C = settings["n_embd"]
    if name in ("wte", "wpe"):
        return settings["n_vocab" if name == "wte" else "n_ctx"], C
    part, leaf = name.split("/")[-2:]
    n_in = 4 * C if name.endswith("mlp/c_proj/w") else C
    n_out = {"c_attn": 3 * C, "c_fc": 4 * C}.get(part, C)
    return (1, n_in, n_out) if leaf == "w" else (n_out,)


def _check(checkpoint: Checkpoint, settings: Mapping[str, int]) -> None:
    """Hold a checkpoint's table to the settings before anything is read or built, however large the settings are."""
    path, known = checkpoint.prefix, set()
    for name in _names(settings["n_layer"]):
        found = checkpoint.variables.get(f"model/{name}")
        if found is None:
            raise UserError(f"{path}: model/{name} is missing, which hparams.json asks for", CHECKPOINT)
        if found.shape != (shape := _shape(name, settings)):
            raise UserError(f"{path}: model/{name} is {found.shape}, by hparams.json it is {shape}", CHECKPOINT)
        if found.dtype is None or found.dtype.kind != "f":
            raise UserError(f"{path}: model/{name} holds {found.dtype or 'no plain numbers'}; expected float32", CHECKPOINT)
        known.add(f"model/{name}")
    if extra := sorted(name for name in checkpoint.variables if name.startswith("model/") and name not in known):
        raise UserError(f"{path}: unknown tensor {extra[0]}, for which hparams.json has no place", CHECKPOINT)


def _tensors(checkpoint: Checkpoint, n_layers: int) -> Iterator[tuple[str, Array]]:
    """Every tensor of a checked checkpoint, one after the other; matrices as [in, out]."""
    for name in _names(n_layers):
        array = checkpoint.read(f"model/{name}")
        if not np.isfinite(array).all():
            raise UserError(f"{checkpoint.prefix}: model/{name} holds numbers that are not finite", CHECKPOINT)
        yield name, array[0] if array.ndim == 3 else array


def _way(name: str) -> list[str | int]:
    """Where a tensor lies in `params`: "h3/ln_1/g" -> ["blocks", 3, "ln_1", "g"], and "ln_f/g" -> ["g"]."""
    if name in TOP:
        return [name.rpartition("/")[2]]
    layer, *rest = name.split("/")
    return ["blocks", int(layer[1:]), *rest]


def _find(params: Mapping[str, Any], name: str) -> Array:
    at: Any = params
    try:
        for step in _way(name):
            at = at[step]
    except (KeyError, IndexError, TypeError):
        raise UserError(f"the weights have no {name}; expected a tree as download_and_load_gpt2 gives it", CHECKPOINT) from None
    return np.asarray(at)


def _ours(name: str, array: Array) -> dict[str, Array]:
    """A tensor of the release under our names and in our shapes; views, not copies."""
    if name in TOP:
        return dict.fromkeys(TOP[name], array)
    layer, _, part = name.partition("/")
    names = BLOCK[part]
    if not array.ndim or array.shape[-1] % len(names):
        raise ValueError(f"Shape mismatch. {name} is {array.shape}; expected query, key and value side by side")
    pieces = np.split(array, len(names), axis=-1)
    return {f"trf_blocks.{layer[1:]}.{ours}": piece.T if part.endswith("/w") else piece for ours, piece in zip(names, pieces)}


def _set(gpt: nn.Module, name: str, array: Array) -> None:
    """Put one tensor of the release into the model."""
    head = gpt.get_submodule("out_head")
    tied = head.weight is gpt.get_submodule("tok_emb").weight
    for ours, piece in _ours(name, array).items():
        if ours == "out_head.weight" and tied:
            continue
        module, _, leaf = ours.rpartition(".")
        setattr(gpt.get_submodule(module), leaf, assign(gpt.get_parameter(ours), piece))
    if tied:
        head.weight = gpt.get_submodule("tok_emb").weight
