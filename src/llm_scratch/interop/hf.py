"""Load GPT-2 models of Hugging Face transformers, and write their config.json.

A folder has config.json (model type and shape), the weights in model.safetensors or in several files
with an index (interop/safetensors.py), and tokenizer.json, or vocab.json and merges.txt. Only models that
compute the same as ours are supported; others are rejected with the setting that differs. Code in a
folder is never executed.
Tests: tests/interop/test_hf.py (folders that transformers wrote; equal logits, bit-equal tensors, equal ids, both ways).
Source: https://huggingface.co/docs/transformers, GPT2Config; their GPT-2 is OpenAI's, under its names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import HF, assemble
from llm_scratch.interop.hf_tokenizer import read_start_id, read_tokenizer
from llm_scratch.interop.safetensors import INDEX, SINGLE, TensorFiles, files_of
from llm_scratch.interop.torch_file import unwrapped_names
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.tokenizers import Tokenizer

SHAPE_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
"""Field of GPT2Config -> field of ModelConfig."""
ACTIVATIONS = {"gelu_new": "gpt", "gelu_pytorch_tanh": "gpt", "gelu": "gpt-exact-gelu"}
"""activation_function -> architecture."""
REQUIRED_DEFAULTS = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""Settings of GPT2Config with the only values that our GPT supports."""
EXTRA_KEY = "llm_scratch"
"""Key in config.json for our settings that GPT2Config does not have; transformers ignores it."""
MASK = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")  # causal masks in old files
HEAD = "lm_head.weight"
PREFIX = "transformer."
"""Prefix of every name but the head's if a GPT2LMHeadModel was saved instead of its GPT2Model."""
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def is_folder(path: Path) -> bool:
    """Whether a folder looks like a model of transformers."""
    return (path / "config.json").is_file() and any((path / name).is_file() for name in (SINGLE, INDEX, *PICKLED))


def load_folder(folder: str | Path, tokenizer: Tokenizer | None = None) -> tuple[nn.Module, Tokenizer]:
    """Load the model and tokenizer of a folder, one tensor at a time to save memory.

    Args:
        folder: the folder.
        tokenizer: used instead of the folder's.
    Raises:
        UserError: missing, damaged or unsupported (code 4; for the tokenizer, code 3).
    """
    folder = Path(folder)
    config = read_json(folder / "config.json", CHECKPOINT)
    cfg = config_of(config, folder / "config.json")
    if not (folder / SINGLE).is_file() and any((folder / name).is_file() for name in PICKLED) and not (folder / INDEX).is_file():
        raise UserError(
            f"{folder / PICKLED[0]} is a pickle, which can execute code when it is loaded; download model.safetensors instead, or convert "
            "it with `transformers`: from_pretrained(...).save_pretrained(...)",
            CHECKPOINT,
        )
    tokenizer = tokenizer or read_tokenizer(folder)
    if tokenizer.n_vocab > cfg.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.n_vocab} tokens, the model {cfg.vocab_size}; use the model's own", CHECKPOINT
        )
    model = load_weights(cfg, files_of(folder), folder, "config.json")
    start = (config.get(EXTRA_KEY) or {}).get("start_id", read_start_id(folder))
    model.start_id = start if type(start) is int and 0 <= start < cfg.vocab_size else None  # type: ignore[assignment]
    return model, tokenizer


def load_weights(cfg: ModelConfig, files: Sequence[Path], where: Path, config_file: str) -> nn.Module:
    """Load a model from safetensors files with transformers' names.

    Args:
        cfg: the model's shape.
        files: the safetensors files.
        where: the folder, for errors.
        config_file: the source of `cfg`, for errors.
    Raises:
        UserError: a file is missing, damaged, or does not match `cfg` (code 4); names file and tensor.
    """
    source = TensorFiles(files)
    plain = unwrapped_names(source.tensors, where)
    source.tensors = {plain[name]: entry for name, entry in source.tensors.items() if not MASK.fullmatch(plain[name])}
    prefix = PREFIX if PREFIX + "wte.weight" in source.tensors else ""
    for name, entry in source.tensors.items():
        if not name.startswith(prefix) and name != HEAD:
            duplicate = f"{name} occurs twice, with and without the prefix {prefix}"
            problem = duplicate if prefix + name in source.tensors else f"unknown tensor {name}"
            raise UserError(f"{entry.file}: {problem}", CHECKPOINT)
    return assemble(cfg, source, HF, where, config_file, prefix=prefix)


def config_of(config: Mapping[str, Any], path: Path) -> ModelConfig:
    """Convert a GPT2Config to a ModelConfig.

    Raises:
        UserError: another model type, or an unsupported setting; names it (code 4).
    """

    def unsupported(name: str, expected: object) -> UserError:
        return UserError(f"{path}: {name} is {str(config.get(name))[:60]!r}; expected {expected}", CHECKPOINT)

    if config.get("model_type") != "gpt2":
        raise unsupported("model_type", "'gpt2', the only supported type")
    for key in SHAPE_FIELDS:
        if type(config.get(key)) is not int or not 1 <= config[key] < 1 << 40:
            raise unsupported(key, "a positive integer")
    if config["n_embd"] % config["n_head"]:
        raise unsupported("n_embd", f"a multiple of n_head={config['n_head']}")
    for key, wanted in REQUIRED_DEFAULTS.items():
        if config.get(key, wanted) != wanted:
            raise unsupported(key, f"{wanted}, the only supported value")
    if config.get("n_inner") not in (None, 4 * config["n_embd"]):
        raise unsupported("n_inner", f"4 x n_embd = {4 * config['n_embd']}")
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise unsupported("activation_function", " or ".join(ACTIVATIONS))
    if config.get("quantization_config"):
        raise unsupported("quantization_config", "none: only unquantized weights are supported")
    tied, drop, ours = config.get("tie_word_embeddings", True), config.get("resid_pdrop", 0.1), config.get(EXTRA_KEY) or {}
    if type(tied) is not bool:
        raise unsupported("tie_word_embeddings", "true or false")
    if not isinstance(drop, int | float) or not 0 <= drop < 1:
        raise unsupported("resid_pdrop", "at least 0 and below 1")
    bias = ours.get("qkv_bias", True) is not False if isinstance(ours, dict) else True
    shape = {mine: config[theirs] for theirs, mine in SHAPE_FIELDS.items()}
    return ModelConfig(**shape, drop_rate=float(drop), qkv_bias=bias, tie_embeddings=tied, architecture=ACTIVATIONS[activation])


def to_config(cfg: ModelConfig, start_id: int | None, eot: int | None) -> dict[str, Any]:
    """Make the config.json of one of our models.

    Raises:
        UserError: the architecture is not a GPT2LMHeadModel (code 2).
    """
    activations = {architecture: activation for activation, architecture in reversed(ACTIVATIONS.items())}
    if cfg.architecture not in activations:
        raise UserError(f"architecture {cfg.architecture!r} is not a GPT2LMHeadModel; expected {' or '.join(activations)}")
    ours = {name: value for name, value in (("qkv_bias", cfg.qkv_bias), ("start_id", start_id)) if value not in (True, None)}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: cfg[mine] for theirs, mine in SHAPE_FIELDS.items()},
        "n_ctx": cfg.context_length,
        "n_inner": None,
        "activation_function": activations[cfg.architecture],
        "resid_pdrop": cfg.drop_rate,
        "embd_pdrop": cfg.drop_rate,
        "attn_pdrop": cfg.drop_rate,
        **REQUIRED_DEFAULTS,
        "initializer_range": 0.02,
        "tie_word_embeddings": cfg.tie_embeddings,
        "bos_token_id": eot,
        "eos_token_id": eot,
        "use_cache": True,
        "dtype": "float32",
        **({EXTRA_KEY: ours} if ours else {}),
    }
