"""Gemma 2 and 3 in GGUF files: llama.cpp's architectures "gemma2" and "gemma3".

Norms there multiply by their weights; here by 1 more than their weights.
Tests: tests/interop/test_gguf_families.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (src/models/gemma2.cpp, gemma3.cpp).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llm_scratch.architectures.gemma import GemmaConfig
from llm_scratch.interop.gguf_decoder import decoder_rules, read_decoder, written_decoder
from llm_scratch.interop.gguf_family import GGUFFamily, GGUFSettings
from llm_scratch.interop.hf_decoder import make
from llm_scratch.interop.weight_map import Transform

NORMS = {
    "norm1": "attn_norm",
    "post_norm1": "post_attention_norm",
    "norm2": "ffn_norm",
    "post_norm2": "post_ffw_norm",
}
WITH_ONE = Transform(lambda weight: weight - 1, lambda weight: weight + 1)
SCALINGS = ("none", "linear")
"""Values of rope_scaling that are supported."""
WINDOW = "attention.sliding_window"
LOCAL_BASE = "rope.freq_base_swa"
ATTENTION_CAP, LOGIT_CAP = "attn_logit_softcapping", "final_logit_softcapping"
PATTERN = "attention.sliding_window_pattern"
"""n if every n-th layer has no window; 0 if all have one"""
LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""Number of layers by which llama.cpp detects the 27B models, to scale their queries otherwise."""


def gemma2_from(settings: GGUFSettings) -> GemmaConfig:
    """Convert the settings of a Gemma 2; see `GGUFFamily.config_from`."""
    own = {
        "qk_norm": False,
        "rope_local_base": None,
        "window": settings.count(WINDOW),
        "full_every": int(settings.number(PATTERN, 2)) or None,
        "attention_softcap": settings.number(ATTENTION_CAP, 50.0),
        "logit_softcap": settings.number(LOGIT_CAP, 30.0),
    }
    cfg = make(GemmaConfig, read_decoder(settings, SCALINGS) | own, settings.file.path)
    return _scaled("gemma2", cfg)


def gemma3_from(settings: GGUFSettings) -> GemmaConfig:
    """Convert the settings of a Gemma 3; see `GGUFFamily.config_from`."""
    own = {
        "window": int(settings.number(WINDOW, 0)) or None,
        "full_every": int(settings.number(PATTERN, 6)) or None,
        "rope_local_base": settings.number(LOCAL_BASE, 10_000.0),
        "logit_softcap": settings.number(LOGIT_CAP, 0.0) or None,
    }
    cfg = make(GemmaConfig, read_decoder(settings, SCALINGS) | own, settings.file.path)
    return _scaled("gemma3", cfg)


def config_to(cfg: GemmaConfig) -> dict[str, Any]:
    """Convert our settings; see `GGUFFamily.config_to`."""
    own = {
        WINDOW: cfg.window,
        PATTERN: cfg.full_every or 0,
        LOCAL_BASE: cfg.rope_local_base,
        ATTENTION_CAP: cfg.attention_softcap,
        LOGIT_CAP: cfg.logit_softcap,
    }
    set_values = {name: value for name, value in own.items() if value is not None}
    return {**written_decoder(cfg), **set_values}


def _query_size(name: str, cfg: GemmaConfig) -> int:
    """The size of a query with which llama.cpp scales attention."""
    is_27b = cfg.n_layers == LAYERS_OF_27B[name]
    return cfg.emb_dim // cfg.n_heads if is_27b else cfg.head_size


def _scaled(name: str, cfg: GemmaConfig) -> GemmaConfig:
    """The settings with this size, which files do not have."""
    size = _query_size(name, cfg)
    return cfg if size == cfg.head_size else replace(cfg, query_size=size)


def _is_scaled(name: str, cfg: GemmaConfig) -> bool:
    return (cfg.query_size or cfg.head_size) == _query_size(name, cfg)


def _expressed_by_gemma2(cfg: GemmaConfig) -> bool:
    capped = cfg.attention_softcap is not None and cfg.logit_softcap is not None
    plain = not cfg.qk_norm and cfg.rope_local_base in (None, cfg.rope_base)
    plain = plain and cfg.rope_scaling in SCALINGS
    return capped and cfg.window is not None and plain and _is_scaled("gemma2", cfg)


def _expressed_by_gemma3(cfg: GemmaConfig) -> bool:
    plain = cfg.attention_softcap is None and cfg.rope_scaling in SCALINGS
    return cfg.qk_norm and plain and _is_scaled("gemma3", cfg)


GEMMA2 = GGUFFamily(
    "gemma",
    gemma2_from,
    config_to,
    lambda cfg: decoder_rules(NORMS, norm=WITH_ONE),
    _expressed_by_gemma2,
)
GEMMA3 = GGUFFamily(
    "gemma",
    gemma3_from,
    config_to,
    lambda cfg: decoder_rules(NORMS, qk_norm=True, norm=WITH_ONE),
    _expressed_by_gemma3,
)
