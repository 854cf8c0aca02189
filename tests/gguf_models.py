"""A tiny model and its tokenizer as a GGUF file, written without any library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gguf_bytes import T, gguf_bytes

from llm_scratch.architectures import GPTConfig, ModelConfig
from llm_scratch.architectures.gemma import GemmaConfig
from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.architectures.qwen import QwenConfig
from llm_scratch.interop.gguf_gpt2 import GPT2
from llm_scratch.interop.gguf_tokenizer import tokenizer_metadata
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import build
from llm_scratch.tokenizers.bpe import ByteBPE

TEXT = "the cat sat on the mat, and the hat — naïve 😀\n\t" * 20
CFG = GPTConfig(
    vocab_size=290, context_length=16, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.0, ff_dim=24
)

SIZES: dict[str, Any] = {
    "vocab_size": 290,
    "context_length": 128,
    "emb_dim": 64,
    "n_heads": 4,
    "n_layers": 3,
    "ff_dim": 96,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES, n_kv_heads=2),
    "llama, tied, wide heads, biases": LlamaConfig(
        **SIZES, head_dim=32, tie_embeddings=True, attention_bias=True, rope_base=500_000.0
    ),
    "llama, linear scaling": LlamaConfig(**SIZES, rope_scaling="linear", rope_factor=4.0),
    "llama, Llama 3's scaling": LlamaConfig(
        **SIZES, rope_scaling="llama3", rope_factor=3.0, rope_trained_context=40
    ),
    "llama, YaRN": LlamaConfig(
        **SIZES, rope_scaling="yarn", rope_factor=4.0, rope_trained_context=32, rope_beta_fast=8.0
    ),
    "qwen3, YaRN": QwenConfig(
        **SIZES, rope_scaling="yarn", rope_factor=4.0, rope_attention_factor=1.5
    ),
    "qwen2": QwenConfig(**SIZES, n_kv_heads=2, qk_norm=False, qkv_bias=True),
    "qwen3": QwenConfig(**SIZES, n_kv_heads=2, head_dim=32, tie_embeddings=True),
    "gemma2": GemmaConfig(
        **SIZES,
        n_kv_heads=2,
        qk_norm=False,
        rope_local_base=None,
        window=8,
        full_every=2,
        attention_softcap=50.0,
        logit_softcap=30.0,
    ),
    "gemma3": GemmaConfig(**SIZES, n_kv_heads=2, head_dim=32, window=8, full_every=3),
    "gemma3, no window": GemmaConfig(**SIZES),
}
"""Small models of each family that llama.cpp has."""


def random_model(cfg: ModelConfig) -> Any:
    """A model with random biases and norms as well."""
    torch.manual_seed(11)
    model = build(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def parts_of(model: Any, tokenizer: ByteBPE) -> tuple[dict[str, Any], list[T]]:
    """The metadata and the tensors of a file."""
    settings = {
        key if key.startswith("llm_scratch.") else f"gpt2.{key}": value
        for key, value in GPT2.config_to(model.cfg).items()
    }
    metadata: dict[str, Any] = {"general.architecture": "gpt2", **settings}
    metadata |= tokenizer_metadata(tokenizer, model.cfg.vocab_size, model.start_id)
    state = {name: value.detach() for name, value in model.named_parameters()}
    tensors = []
    for each in expand(GPT2.rules(model.cfg), model.cfg.n_layers):
        if each.theirs and (each.ours[0] in state or each.ours[0].endswith("bias")):
            tensor = each.join(state).contiguous()
            tensors.append(T(each.theirs, tuple(tensor.shape), data=tensor.numpy().tobytes()))
    return metadata, tensors


def whole_file(
    model: Any, tokenizer: ByteBPE, changes: Mapping[str, Any] = {}, without: str = ""
) -> bytes:
    """The bytes of a file, with some metadata changed (None: left out) and a tensor left out."""
    metadata, tensors = parts_of(model, tokenizer)
    metadata = {key: item for key, item in (metadata | changes).items() if item is not None}
    return gguf_bytes(metadata, [tensor for tensor in tensors if tensor.name != without])
