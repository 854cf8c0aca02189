"""GPT-2 in Hugging Face transformers: GPT2Config and the names of GPT2LMHeadModel.

Tests: tests/interop/test_hf.py, test_hf_export.py.
Source: https://huggingface.co/docs/transformers, GPT2Config;
their GPT-2 is OpenAI's, under its names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.architectures import Activation, GPTConfig
from llm_scratch.interop.gpt2_weight_map import HF, HF_PREFIX
from llm_scratch.interop.hf_family import EXTRA_KEY, Family, positive_integers, unsupported

SHAPE_FIELDS = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
"""Field of GPT2Config -> field of GPTConfig."""
ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""activation_function -> activation; of several names for one, the first is written."""
REQUIRED_DEFAULTS = {"scale_attn_weights": True, "add_cross_attention": False}
"""Settings of GPT2Config with the only values that our GPT supports."""

SWITCHES = {"tie_word_embeddings": True, "scale_attn_by_inverse_layer_idx": False}
NUMBERS = {"layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1}
"""Settings that are true or false, or at least 0 and below 1, with their defaults."""


def config_from(config: Mapping[str, Any], path: Path) -> GPTConfig:
    """Convert a GPT2Config; see `Family.config_from`."""
    shape: dict[str, Any] = positive_integers(config, path, SHAPE_FIELDS)
    C = config["n_embd"]
    if C % config["n_head"]:
        raise unsupported(config, path, "n_embd", f"a multiple of n_head={config['n_head']}")
    for key, wanted in REQUIRED_DEFAULTS.items():
        if config.get(key, wanted) != wanted:
            raise unsupported(config, path, key, f"{wanted}, the only supported value")
    if config.get("n_inner") is not None:
        positive_integers(config, path, {"n_inner": "ff_dim"})
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise unsupported(config, path, "activation_function", " or ".join(ACTIVATIONS))
    switches = {name: config.get(name, default) for name, default in SWITCHES.items()}
    numbers = {name: config.get(name, default) for name, default in NUMBERS.items()}
    for name, switch in switches.items():
        if type(switch) is not bool:
            raise unsupported(config, path, name, "true or false")
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 <= number < 1:
            raise unsupported(config, path, name, "at least 0 and below 1")
    ours = config.get(EXTRA_KEY)
    inner = config.get("n_inner")
    return GPTConfig(
        **shape,
        drop_rate=float(numbers["resid_pdrop"]),
        qkv_bias=not isinstance(ours, dict) or ours.get("qkv_bias", True) is not False,
        tie_embeddings=switches["tie_word_embeddings"],
        ff_dim=None if inner == 4 * C else inner,
        activation=ACTIVATIONS[activation],
        norm_eps=float(numbers["layer_norm_epsilon"]),
        scale_attention_by_layer=switches["scale_attn_by_inverse_layer_idx"],
    )


def config_to(cfg: GPTConfig) -> dict[str, Any]:
    """Make the fields of a GPT2Config; see `Family.config_to`."""
    activations = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        **{theirs: cfg[ours] for theirs, ours in SHAPE_FIELDS.items()},
        "n_ctx": cfg.context_length,
        "n_inner": cfg.ff_dim,
        "activation_function": activations[cfg.activation],
        "resid_pdrop": cfg.drop_rate,
        "embd_pdrop": cfg.drop_rate,
        "attn_pdrop": cfg.drop_rate,
        "layer_norm_epsilon": cfg.norm_eps,
        "scale_attn_by_inverse_layer_idx": cfg.scale_attention_by_layer,
        **REQUIRED_DEFAULTS,
        "initializer_range": 0.02,
        "tie_word_embeddings": cfg.tie_embeddings,
        EXTRA_KEY: {} if cfg.qkv_bias else {"qkv_bias": False},
    }


GPT2 = Family(
    "gpt",
    "GPT2LMHeadModel",
    config_from,
    config_to,
    HF,
    HF_PREFIX,
    # causal masks in old files
    ignored=re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias"),
    has_all_biases=True,
)
