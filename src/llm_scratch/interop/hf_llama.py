"""Llama, Mistral and SmolLM3 in Hugging Face transformers.

Tests: tests/model/test_llama.py.
Source: https://huggingface.co/docs/transformers, LlamaConfig, MistralConfig, SmolLM3Config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    written_settings,
)
from llm_scratch.interop.hf_family import Family, positive_integers, unsupported


def _shared(
    config: Mapping[str, Any], path: Path, tied: bool, rope_base: float = 10_000.0
) -> dict[str, Any]:
    """Settings that the three have in common; `tied` and `rope_base` are their defaults."""
    require(config, path, hidden_act="silu")
    return {
        **read_settings(config, path),
        **read_rope(config, path, rope_base),
        "tie_embeddings": switch(config, path, "tie_word_embeddings", tied),
    }


def llama_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a LlamaConfig; see `Family.config_from`."""
    require(config, path, pretraining_tp=1)
    settings = _shared(config, path, False)
    settings["attention_bias"] = switch(config, path, "attention_bias", False)
    settings["ff_bias"] = switch(config, path, "mlp_bias", False)
    return make(LlamaConfig, settings, path)


def mistral_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a MistralConfig; see `Family.config_from`."""
    settings = _shared(config, path, False)
    settings.setdefault("n_kv_heads", 8)
    if config.get("sliding_window", 4096) is not None:
        theirs = {"sliding_window": 4096, **config}
        settings |= positive_integers(theirs, path, {"sliding_window": "window"})
    return make(LlamaConfig, settings, path)


def smollm3_from(config: Mapping[str, Any], path: Path) -> LlamaConfig:
    """Convert a SmolLM3Config; see `Family.config_from`."""
    require(config, path, use_sliding_window=False)
    settings = _shared(config, path, True, 2_000_000.0)
    settings.setdefault("n_kv_heads", 4)
    settings["attention_bias"] = switch(config, path, "attention_bias", False)
    settings["ff_bias"] = switch(config, path, "mlp_bias", False)
    theirs = {"no_rope_layer_interval": 4, **config}
    every = positive_integers(theirs, path, {"no_rope_layer_interval": "no_rope_every"})
    layers = settings["n_layers"]
    if (marked := config.get("no_rope_layers")) is not None:
        if not isinstance(marked, list) or len(marked) != layers:
            raise unsupported(config, path, "no_rope_layers", f"a list of {layers}")
        first = marked.index(0) + 1 if 0 in marked else None
        if marked != [int(first is None or (i + 1) % first != 0) for i in range(layers)]:
            raise unsupported(config, path, "no_rope_layers", "0 for every n-th layer, else 1")
        every["no_rope_every"] = first  # type: ignore[assignment]
    return make(LlamaConfig, settings | every, path)


def llama_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a LlamaConfig; see `Family.config_to`."""
    biases = {"attention_bias": cfg.attention_bias, "mlp_bias": cfg.ff_bias}
    return {**written_settings(cfg), "hidden_act": "silu", **biases}


def mistral_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a MistralConfig; see `Family.config_to`."""
    return {**written_settings(cfg), "hidden_act": "silu", "sliding_window": cfg.window}


def smollm3_to(cfg: LlamaConfig) -> dict[str, Any]:
    """Make the fields of a SmolLM3Config; see `Family.config_to`."""
    every = cfg.no_rope_every or cfg.n_layers + 1
    return {
        **llama_to(cfg),
        "no_rope_layer_interval": every,
        "no_rope_layers": [int((i + 1) % every != 0) for i in range(cfg.n_layers)],
    }


RULES = decoder_rules()
IGNORED = re.compile(OLD_ROTARY)
LLAMA = Family(
    "llama",
    "LlamaForCausalLM",
    llama_from,
    llama_to,
    RULES,
    "model.",
    IGNORED,
    expresses=lambda cfg: cfg.window is None and cfg.no_rope_every is None,
)
MISTRAL = Family(
    "llama",
    "MistralForCausalLM",
    mistral_from,
    mistral_to,
    RULES,
    "model.",
    IGNORED,
    expresses=lambda cfg: not (cfg.no_rope_every or cfg.attention_bias or cfg.ff_bias),
)
SMOLLM3 = Family(
    "llama",
    "SmolLM3ForCausalLM",
    smollm3_from,
    smollm3_to,
    RULES,
    "model.",
    IGNORED,
    expresses=lambda cfg: cfg.window is None and cfg.head_dim is None,
)
