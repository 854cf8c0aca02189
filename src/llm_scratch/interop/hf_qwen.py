"""Qwen2 and Qwen3 in Hugging Face transformers.

Tests: tests/model/test_qwen.py.
Source: https://huggingface.co/docs/transformers, Qwen2Config, Qwen3Config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.architectures.qwen import QwenConfig
from llm_scratch.interop.hf_decoder import (
    decoder_rules,
    layer_types,
    make,
    read_rope,
    read_settings,
    require,
    switch,
    written_rope,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, positive_integers, unsupported

QWEN2_DEFAULTS = {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28}
QWEN3_DEFAULTS = QWEN2_DEFAULTS | {"head_dim": 128}


def qwen2_from(config: Mapping[str, Any], path: Path) -> QwenConfig:
    """Convert a Qwen2Config; see `Family.config_from`."""
    own = {"qkv_bias": True, "qk_norm": False}
    return make(QwenConfig, _settings(config, path) | own, path)


def qwen3_from(config: Mapping[str, Any], path: Path) -> QwenConfig:
    """Convert a Qwen3Config; see `Family.config_from`."""
    require(config, path, attention_bias=False)
    return make(QwenConfig, _settings(config, path), path)


def config_to(cfg: QwenConfig) -> dict[str, Any]:
    """Make the fields of a Qwen2Config or Qwen3Config; see `Family.config_to`."""
    return {
        **written_settings(cfg),
        **written_rope(cfg),
        "hidden_act": "silu",
        "use_sliding_window": cfg.window is not None,
        "sliding_window": cfg.window,
        "max_window_layers": cfg.window_from_layer,
        "layer_types": layer_types(cfg.windows),
    }


def _settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the two have in common."""
    require(config, path, hidden_act="silu")
    settings = {**read_settings(config, path), **read_rope(config, path)}
    if switch(config, path, "use_sliding_window", False) and config["sliding_window"] is not None:
        settings |= positive_integers(config, path, {"sliding_window": "window"})
        first = config["max_window_layers"]
        if type(first) is not int or first < 0:
            raise unsupported(config, path, "max_window_layers", "a whole number")
        settings["window_from_layer"] = first
    windows = [
        settings.get("window") if layer >= settings.get("window_from_layer", 0) else None
        for layer in range(settings["n_layers"])
    ]
    if config.get("layer_types") not in (None, layer_types(windows)):
        raise unsupported(config, path, "layer_types", "windows from max_window_layers on only")
    return settings


QWEN2 = Family(
    "qwen",
    "Qwen2ForCausalLM",
    qwen2_from,
    config_to,
    decoder_rules(),
    "model.",
    defaults=QWEN2_DEFAULTS,
    expresses=lambda cfg: cfg.qkv_bias and not cfg.qk_norm,
)
QWEN3 = Family(
    "qwen",
    "Qwen3ForCausalLM",
    qwen3_from,
    config_to,
    decoder_rules(qk_norm=True),
    "model.",
    defaults=QWEN3_DEFAULTS,
    expresses=lambda cfg: cfg.qk_norm and not cfg.qkv_bias,
)
