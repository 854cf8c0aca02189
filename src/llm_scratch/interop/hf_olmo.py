"""OLMo 2 and 3 in Hugging Face transformers.

Tests: tests/model/test_olmo.py.
Source: https://huggingface.co/docs/transformers, Olmo2Config, Olmo3Config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.architectures.olmo import OlmoConfig
from llm_scratch.interop.hf_decoder import (
    decoder_rules,
    layer_types,
    make,
    read_rope,
    read_rope_of_kinds,
    read_settings,
    read_windows,
    require,
    written_rope,
    written_rope_of_kinds,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, unsupported

OLMO2_DEFAULTS = {"rms_norm_eps": 1e-5}
OLMO3_DEFAULTS = {"rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "sliding_window": 4096}


def olmo2_from(config: Mapping[str, Any], path: Path) -> OlmoConfig:
    """Convert an Olmo2Config; see `Family.config_from`."""
    require(config, path, hidden_act="silu", attention_bias=False)
    return make(OlmoConfig, {**read_settings(config, path), **read_rope(config, path)}, path)


def olmo3_from(config: Mapping[str, Any], path: Path) -> OlmoConfig:
    """Convert an Olmo3Config; see `Family.config_from`."""
    require(config, path, hidden_act="silu", attention_bias=False)
    settings = read_settings(config, path)
    settings |= read_windows(config, path, settings["n_layers"], 4)
    full, local = read_rope_of_kinds(config, path, "rope_theta")
    if local["rope_base"] != full["rope_base"]:
        raise unsupported(
            {"rope_theta": local["rope_base"]},
            path,
            "rope_theta",
            f"{full['rope_base']}, that of the layers that attend to all tokens",
        )
    return make(OlmoConfig, settings | full, path)


def olmo2_to(cfg: OlmoConfig) -> dict[str, Any]:
    """Make the fields of an Olmo2Config; see `Family.config_to`."""
    return {**written_settings(cfg), **written_rope(cfg), "hidden_act": "silu"}


def olmo3_to(cfg: OlmoConfig) -> dict[str, Any]:
    """Make the fields of an Olmo3Config; see `Family.config_to`."""
    return {
        **written_settings(cfg),
        "hidden_act": "silu",
        "sliding_window": cfg.window,
        "layer_types": layer_types(cfg.windows),
        **written_rope_of_kinds(cfg, cfg.rope_base, "rope_theta"),
    }


def _has_usual_heads(cfg: OlmoConfig) -> bool:
    """Whether heads are as wide as emb_dim / n_heads, which their configs take for granted."""
    return cfg.head_size * cfg.n_heads == cfg.emb_dim


NORMS = {"post_norm1": "post_attention_layernorm", "post_norm2": "post_feedforward_layernorm"}
RULES = decoder_rules(NORMS, qk_norm=True)
OLMO2 = Family(
    "olmo",
    "Olmo2ForCausalLM",
    olmo2_from,
    olmo2_to,
    RULES,
    "model.",
    defaults=OLMO2_DEFAULTS,
    expresses=lambda cfg: cfg.window is None and _has_usual_heads(cfg),
)
OLMO3 = Family(
    "olmo",
    "Olmo3ForCausalLM",
    olmo3_from,
    olmo3_to,
    RULES,
    "model.",
    defaults=OLMO3_DEFAULTS,
    expresses=lambda cfg: (
        cfg.window is not None
        and cfg.rope_scaling != "ntk"  # a base that layers with a window would not have
        and _has_usual_heads(cfg)
    ),
)
