"""Llama in GGUF files: llama.cpp's architecture "llama", also for Mistral and SmolLM2.

Tests: tests/interop/test_gguf_families.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (src/models/llama.cpp, conversion/llama.py).
"""

from __future__ import annotations

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.interop.gguf_decoder import (
    decoder_rules,
    interleaved,
    read_decoder,
    written_decoder,
)
from llm_scratch.interop.gguf_family import GGUFFamily, GGUFSettings
from llm_scratch.interop.gguf_rope import rope_tensors
from llm_scratch.interop.hf_decoder import make
from llm_scratch.interop.weight_map import Rule


def config_from(settings: GGUFSettings) -> LlamaConfig:
    """Convert the settings of a file; see `GGUFFamily.config_from`."""
    biases = {
        "attention_bias": settings.has_tensor("blk.0.attn_q.bias"),
        "ff_bias": settings.has_tensor("blk.0.ffn_up.bias"),
    }
    return make(LlamaConfig, read_decoder(settings) | biases, settings.file.path)


def rules(cfg: LlamaConfig) -> list[Rule]:
    """The names of the tensors; queries and keys are in the order of rotary pairs."""
    return decoder_rules(query=interleaved(cfg.n_heads), key=interleaved(cfg.kv_heads))


LLAMA = GGUFFamily(
    "llama",
    config_from,
    written_decoder,
    rules,
    lambda cfg: cfg.window is None and cfg.no_rope_every is None,
    rope_tensors,
)
