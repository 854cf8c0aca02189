"""Llama, Mistral and SmolLM3 in Hugging Face transformers.

Tests: tests/model/test_llama.py.
Source: https://huggingface.co/docs/transformers, LlamaConfig, MistralConfig, SmolLM3Config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.interop.hf_decoder import (
    OLD_ROTARY,
    decoder_rules,
    make,
    read_rope,
    read_settings,
    require,
    switch,
    written_rope,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, positive_integers, unsupported

MISTRAL_DEFAULTS = {"num_key_value_heads": 8, "sliding_window": 4096}
SMOLLM3_DEFAULTS = {
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
    "rope_theta": 2_000_000.0,
    "no_rope_layer_interval": 4,
}


def llama_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a LlamaConfig; see `Family.config_from`."""
    require(config, path, hidden_act="silu", pretraining_tp=1)
    return make(LlamaConfig, _settings(config, path), path)


def mistral_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a MistralConfig; see `Family.config_from`."""
    require(config, path, hidden_act="silu", attention_bias=False, mlp_bias=False)
    settings = _settings(config, path)
    if config["sliding_window"] is not None:
        settings |= positive_integers(config, path, {"sliding_window": "window"})
    return make(LlamaConfig, settings, path)


def smollm3_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a SmolLM3Config; see `Family.config_from`."""
    require(config, path, hidden_act="silu", use_sliding_window=False)
    settings = _settings(config, path)
    settings |= positive_integers(config, path, {"no_rope_layer_interval": "no_rope_every"})
    n_layers = settings["n_layers"]
    if (rotated := config.get("no_rope_layers")) is not None:
        if not isinstance(rotated, list) or len(rotated) != n_layers:
            raise unsupported(config, path, "no_rope_layers", f"a list of {n_layers}")
        every = rotated.index(0) + 1 if 0 in rotated else None
        if rotated != _rotated_layers(n_layers, every):
            raise unsupported(config, path, "no_rope_layers", "0 for every n-th layer, else 1")
        settings["no_rope_every"] = every
    return make(LlamaConfig, settings, path)


def llama_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a LlamaConfig; see `Family.config_to`."""
    biases = {"attention_bias": cfg.attention_bias, "mlp_bias": cfg.ff_bias}
    return {**written_settings(cfg), **written_rope(cfg), "hidden_act": "silu", **biases}


def mistral_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a MistralConfig; see `Family.config_to`."""
    return llama_to(cfg) | {"sliding_window": cfg.window}


def smollm3_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a SmolLM3Config; see `Family.config_to`."""
    return llama_to(cfg) | {"no_rope_layers": _rotated_layers(cfg.n_layers, cfg.no_rope_every)}


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the three have in common."""
    return {
        **read_settings(config, path),
        **read_rope(config, path),
        "attention_bias": switch(config, path, "attention_bias", False),
        "ff_bias": switch(config, path, "mlp_bias", False),
    }


def _rotated_layers(n_layers: int, no_rope_every: int | None) -> list[int]:
    """1 for a layer with rotary positions, 0 for one without."""
    every = no_rope_every or n_layers + 1
    return [int((layer + 1) % every != 0) for layer in range(n_layers)]


_family = partial(
    Family, "llama", rules=decoder_rules(), prefix="model.", ignored=re.compile(OLD_ROTARY)
)
LLAMA = _family(
    class_name="LlamaForCausalLM",
    config_from=llama_from,
    config_to=llama_to,
    expresses=lambda cfg: cfg.window is None and cfg.no_rope_every is None,
)
MISTRAL = _family(
    class_name="MistralForCausalLM",
    config_from=mistral_from,
    config_to=mistral_to,
    defaults=MISTRAL_DEFAULTS,
    expresses=lambda cfg: not (cfg.no_rope_every or cfg.attention_bias or cfg.ff_bias),
)
SMOLLM3 = _family(
    class_name="SmolLM3ForCausalLM",
    config_from=smollm3_from,
    config_to=smollm3_to,
    defaults=SMOLLM3_DEFAULTS,
    expresses=lambda cfg: cfg.window is None and cfg.head_size * cfg.n_heads == cfg.emb_dim,
)
