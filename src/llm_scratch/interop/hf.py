"""Models of Hugging Face's transformers: their folders become ours, and ours theirs.

A folder holds config.json (what kind, which shape), the weights in model.safetensors or in several files with an index
(interop/safetensors.py), and tokenizer.json, or vocab.json and merges.txt. Of the many kinds of models, those that compute what ours do
are read; any other is refused with the setting that is to blame. No code that lies in a folder is ever run.
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
"""GPT2Config's names of five settings -> ours."""
ACTIVATIONS = {"gelu_new": "gpt", "gelu_pytorch_tanh": "gpt", "gelu": "gpt-erf"}
"""activation_function -> our architecture."""
REQUIRED_DEFAULTS = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""What our GPT does, and a GPT2Config could say otherwise."""
OURS = "llm_scratch"
"""The part of config.json that only we write: what GPT2Config has no word for, and transformers does not miss."""
MASK = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")  # tables of who may look at whom, which old files hold
PREFIX, HEAD = "transformer.", "lm_head.weight"
"""What stands before every name but the head's, where a GPT2LMHeadModel was saved and not the GPT2Model in it."""
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def is_folder(path: Path) -> bool:
    """Whether a folder looks like one of transformers."""
    return (path / "config.json").is_file() and any((path / name).is_file() for name in (SINGLE, INDEX, *PICKLED))


def load_folder(folder: str | Path, tokenizer: Tokenizer | None = None) -> tuple[nn.Module, Tokenizer]:
    """The model and the tokenizer in a folder; besides the model, never more than one tensor of it is in memory.

    Args:
        tokenizer: instead of the folder's.
    Raises:
        UserError: a file is missing, damaged, or of a kind of model that we do not have (code 4; the tokenizer's, code 3).
    """
    folder = Path(folder)
    config = read_json(folder / "config.json", CHECKPOINT)
    cfg = config_of(config, folder / "config.json")
    if not (folder / SINGLE).is_file() and any((folder / name).is_file() for name in PICKLED) and not (folder / INDEX).is_file():
        raise UserError(
            f"{folder / PICKLED[0]} is a pickle, which can run code when it is read; get model.safetensors instead, or convert to "
            "safetensors: `transformers` does it with from_pretrained(...).save_pretrained(...)",
            CHECKPOINT,
        )
    tokenizer = tokenizer or read_tokenizer(folder)
    if tokenizer.n_vocab > cfg.vocab_size:
        raise UserError(f"{folder}: the tokenizer has {tokenizer.n_vocab} tokens and the model {cfg.vocab_size}", CHECKPOINT)
    model = load_weights(cfg, files_of(folder), folder, "config.json")
    start = (config.get(OURS) or {}).get("start_id", read_start_id(folder))
    model.start_id = start if type(start) is int and 0 <= start < cfg.vocab_size else None  # type: ignore[assignment]
    return model, tokenizer


def load_weights(cfg: ModelConfig, files: Sequence[Path], where: Path, says: str) -> nn.Module:
    """The model in safetensors files with transformers' names; `where` and `says`, the source of `cfg`, are for errors.

    Raises:
        UserError: a file is missing or damaged, or does not fit `cfg` (code 4); names file and tensor.
    """
    source = TensorFiles(files)
    plain = unwrapped_names(source.tensors, where)
    source.tensors = {plain[name]: entry for name, entry in source.tensors.items() if not MASK.fullmatch(plain[name])}
    prefix = PREFIX if PREFIX + "wte.weight" in source.tensors else ""
    for name, entry in source.tensors.items():
        if not name.startswith(prefix) and name != HEAD:
            what = f"{name} is there twice, with {prefix} before it and without"
            raise UserError(f"{entry.file}: {what if prefix + name in source.tensors else f'unknown tensor {name}'}", CHECKPOINT)
    return assemble(cfg, source, HF, where, says, prefix=prefix)


def config_of(config: Mapping[str, Any], path: Path) -> ModelConfig:
    """Our words for a GPT2Config.

    Raises:
        UserError: it is another kind of model, or one that computes something else; names the setting (code 4).
    """

    def refuse(name: str, expected: object) -> UserError:
        return UserError(f"{path}: {name} is {str(config.get(name))[:60]!r}; expected {expected}", CHECKPOINT)

    if config.get("model_type") != "gpt2":
        raise refuse("model_type", "'gpt2', the one kind that is read here")
    for key in SHAPE_FIELDS:
        if type(config.get(key)) is not int or not 1 <= config[key] < 1 << 40:
            raise refuse(key, "a whole number from 1 on")
    if config["n_embd"] % config["n_head"]:
        raise refuse("n_embd", f"a multiple of n_head={config['n_head']}")
    for key, wanted in REQUIRED_DEFAULTS.items():
        if config.get(key, wanted) != wanted:
            raise refuse(key, f"{wanted}: the model here has no other")
    if config.get("n_inner") not in (None, 4 * config["n_embd"]):
        raise refuse("n_inner", f"4 x n_embd = {4 * config['n_embd']}")
    if (bend := config.get("activation_function", "gelu_new")) not in ACTIVATIONS:
        raise refuse("activation_function", " or ".join(ACTIVATIONS))
    if config.get("quantization_config"):
        raise refuse("quantization_config", "none: the weights as they were trained")
    tied, drop, ours = config.get("tie_word_embeddings", True), config.get("resid_pdrop", 0.1), config.get(OURS) or {}
    if type(tied) is not bool:
        raise refuse("tie_word_embeddings", "true or false")
    if not isinstance(drop, int | float) or not 0 <= drop < 1:
        raise refuse("resid_pdrop", "at least 0 and below 1")
    bias = ours.get("qkv_bias", True) is not False if isinstance(ours, dict) else True
    shape = {mine: config[theirs] for theirs, mine in SHAPE_FIELDS.items()}
    return ModelConfig(**shape, drop_rate=float(drop), qkv_bias=bias, tie_embeddings=tied, architecture=ACTIVATIONS[bend])


def to_config(cfg: ModelConfig, start_id: int | None, eot: int | None) -> dict[str, Any]:
    """The config.json of one of our models.

    Raises:
        UserError: GPT2LMHeadModel cannot be it (code 2).
    """
    bends = {architecture: bend for bend, architecture in reversed(ACTIVATIONS.items())}
    if cfg.architecture not in bends:
        raise UserError(f"a model of the architecture {cfg.architecture!r} is no GPT2LMHeadModel; expected {' or '.join(bends)}")
    ours = {name: value for name, value in (("qkv_bias", cfg.qkv_bias), ("start_id", start_id)) if value not in (True, None)}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: cfg[mine] for theirs, mine in SHAPE_FIELDS.items()},
        "n_ctx": cfg.context_length,
        "n_inner": None,
        "activation_function": bends[cfg.architecture],
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
        **({OURS: ours} if ours else {}),
    }
