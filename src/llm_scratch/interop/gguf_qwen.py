"""Qwen2 and Qwen3 in GGUF files: llama.cpp's architectures "qwen2" and "qwen3".

Tests: tests/interop/test_gguf_families.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (src/models/qwen2.cpp, qwen3.cpp).
"""

from __future__ import annotations

from llm_scratch.architectures.qwen import QwenConfig
from llm_scratch.interop.gguf_decoder import decoder_rules, read_decoder, written_decoder
from llm_scratch.interop.gguf_family import GGUFFamily, GGUFSettings
from llm_scratch.interop.hf_decoder import make


def qwen2_from(settings: GGUFSettings) -> QwenConfig:
    """Convert the settings of a Qwen2; see `GGUFFamily.config_from`."""
    own = {"qkv_bias": True, "qk_norm": False}
    return make(QwenConfig, read_decoder(settings) | own, settings.file.path)


def qwen3_from(settings: GGUFSettings) -> QwenConfig:
    """Convert the settings of a Qwen3; see `GGUFFamily.config_from`."""
    return make(QwenConfig, read_decoder(settings), settings.file.path)


def _is_plain(cfg: QwenConfig) -> bool:
    """Whether there is no window, and no scaling that takes a tensor, which Qwen's files lack."""
    return cfg.window is None and cfg.rope_scaling != "llama3"


QWEN2 = GGUFFamily(
    "qwen",
    qwen2_from,
    written_decoder,
    lambda cfg: decoder_rules(),
    lambda cfg: cfg.qkv_bias and not cfg.qk_norm and _is_plain(cfg),
)
QWEN3 = GGUFFamily(
    "qwen",
    qwen3_from,
    written_decoder,
    lambda cfg: decoder_rules(qk_norm=True),
    lambda cfg: cfg.qk_norm and not cfg.qkv_bias and _is_plain(cfg),
)
