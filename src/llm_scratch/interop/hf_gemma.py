"""Gemma 2 and 3 (text) in Hugging Face transformers.

Tests: tests/model/test_gemma.py.
Source: https://huggingface.co/docs/transformers, Gemma2Config, Gemma3TextConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.architectures.gemma import GemmaConfig
from llm_scratch.interop.hf_decoder import (
    decoder_rules,
    layer_types,
    make,
    number,
    read_rope,
    read_rope_of_kinds,
    read_settings,
    read_windows,
    require,
    written_rope,
    written_rope_of_kinds,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, positive_integers, unsupported

ACTIVATION = "gelu_pytorch_tanh"
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
}
GEMMA2_DEFAULTS = DEFAULTS | {
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
GEMMA3_DEFAULTS = DEFAULTS | {
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window_pattern": 6,
}


def gemma2_from(config: Mapping[str, Any], path: Path) -> GemmaConfig:
    """Convert a Gemma2Config; see `Family.config_from`."""
    rope = read_rope(config, path)
    if rope["rope_scaling"] != "none":
        raise unsupported(config, path, "rope_parameters", "rope_type default for a Gemma 2")
    settings = _settings(config, path, full_every=2)
    own = {"qk_norm": False, "rope_local_base": None}
    return make(GemmaConfig, settings | rope | own, path)


def gemma3_from(config: Mapping[str, Any], path: Path) -> GemmaConfig:
    """Convert a Gemma3TextConfig; see `Family.config_from`."""
    if config.get("attn_logit_softcapping") is not None:
        raise unsupported(config, path, "attn_logit_softcapping", "None: a Gemma 3 has no such cap")
    pattern = positive_integers(config, path, {"sliding_window_pattern": "full_every"})
    full, local = read_rope_of_kinds(config, path, "rope_local_base_freq")
    settings = _settings(config, path, **pattern)
    return make(GemmaConfig, settings | full | {"rope_local_base": local["rope_base"]}, path)


def gemma2_to(cfg: GemmaConfig) -> dict[str, Any]:
    """Make the fields of a Gemma2Config; see `Family.config_to`."""
    return _written(cfg) | written_rope(cfg)


def gemma3_to(cfg: GemmaConfig) -> dict[str, Any]:
    """Make the fields of a Gemma3TextConfig; see `Family.config_to`."""
    local = cfg.rope_local_base or cfg.rope_base
    return _written(cfg) | written_rope_of_kinds(cfg, local, "rope_local_base_freq")


def _settings(config: Mapping[str, Any], path: Path, full_every: int) -> dict[str, Any]:
    """What the two have in common, except rotary positions."""
    require(config, path, attention_bias=False, use_bidirectional_attention=False)
    require(config, path, hidden_activation=ACTIVATION, hidden_act=ACTIVATION)
    settings = read_settings(config, path)
    settings |= read_windows(config, path, settings["n_layers"], full_every)
    sizes = {"query_pre_attn_scalar": "query_size", "head_dim": "head_dim"}
    settings |= positive_integers(config, path, sizes)
    if settings["query_size"] == settings["head_dim"]:
        settings["query_size"] = None
    for theirs, ours in (
        ("attn_logit_softcapping", "attention_softcap"),
        ("final_logit_softcapping", "logit_softcap"),
    ):
        if config.get(theirs) is not None:
            settings[ours] = number(config, path, theirs, 0.0)
    return settings


def _written(cfg: GemmaConfig) -> dict[str, Any]:
    """The fields that the two have in common, except rotary positions."""
    return {
        **written_settings(cfg),
        "hidden_activation": ACTIVATION,
        "sliding_window": cfg.window or cfg.context_length,
        "layer_types": layer_types(cfg.windows),
        "query_pre_attn_scalar": cfg.query_size or cfg.head_size,
        "attn_logit_softcapping": cfg.attention_softcap,
        "final_logit_softcapping": cfg.logit_softcap,
    }


def _expressed_by_gemma2(cfg: GemmaConfig) -> bool:
    """Whether every layer has the same rotary positions, and queries and keys have no norms."""
    one_base = cfg.rope_local_base in (None, cfg.rope_base) and cfg.rope_scaling == "none"
    return not cfg.qk_norm and one_base


NORMS = {
    "norm1": "input_layernorm",
    "post_norm1": "post_attention_layernorm",
    "norm2": "pre_feedforward_layernorm",
    "post_norm2": "post_feedforward_layernorm",
}
GEMMA2 = Family(
    "gemma",
    "Gemma2ForCausalLM",
    gemma2_from,
    gemma2_to,
    decoder_rules(NORMS),
    "model.",
    defaults=GEMMA2_DEFAULTS,
    expresses=_expressed_by_gemma2,
)
GEMMA3 = Family(
    "gemma",
    "Gemma3ForCausalLM",
    gemma3_from,
    gemma3_to,
    decoder_rules(NORMS, qk_norm=True),
    "model.",
    defaults=GEMMA3_DEFAULTS,
    expresses=lambda cfg: cfg.qk_norm and cfg.attention_softcap is None,
)
