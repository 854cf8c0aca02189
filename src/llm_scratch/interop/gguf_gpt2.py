"""GPT-2 in GGUF files: llama.cpp's architecture "gpt2".

Tests: tests/interop/test_gguf.py.
Source: https://github.com/ggml-org/llama.cpp (src/models/gpt2.cpp).
"""

from __future__ import annotations

from typing import Any

from llm_scratch.architectures import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.gguf_family import EXTRA_PREFIX, GGUFFamily, GGUFSettings
from llm_scratch.interop.weight_map import Rule

COUNTS = {
    "context_length": "context_length",
    "embedding_length": "emb_dim",
    "attention.head_count": "n_heads",
    "block_count": "n_layers",
}
"""Name in a file -> field of GPTConfig."""
REQUIRED = {"activation": "gelu_tanh", "scale_attention_by_layer": False}
"""Settings of GPTConfig with the only values that llama.cpp computes."""
RULES = [
    Rule("tok_emb.weight", "token_embd.weight"),
    Rule("pos_emb.weight", "position_embd.weight"),
    Rule("trf_blocks.#.norm1.scale", "blk.#.attn_norm.weight"),
    Rule("trf_blocks.#.norm1.shift", "blk.#.attn_norm.bias"),
    Rule("trf_blocks.#.att.W_{query,key,value}.weight", "blk.#.attn_qkv.weight"),
    Rule("trf_blocks.#.att.W_{query,key,value}.bias", "blk.#.attn_qkv.bias"),
    Rule("trf_blocks.#.att.out_proj.weight", "blk.#.attn_output.weight"),
    Rule("trf_blocks.#.att.out_proj.bias", "blk.#.attn_output.bias"),
    Rule("trf_blocks.#.norm2.scale", "blk.#.ffn_norm.weight"),
    Rule("trf_blocks.#.norm2.shift", "blk.#.ffn_norm.bias"),
    Rule("trf_blocks.#.ff.layers.0.weight", "blk.#.ffn_up.weight"),
    Rule("trf_blocks.#.ff.layers.0.bias", "blk.#.ffn_up.bias"),
    Rule("trf_blocks.#.ff.layers.2.weight", "blk.#.ffn_down.weight"),
    Rule("trf_blocks.#.ff.layers.2.bias", "blk.#.ffn_down.bias"),
    Rule("final_norm.scale", "output_norm.weight"),
    Rule("final_norm.shift", "output_norm.bias"),
    Rule("out_head.weight", "output.weight"),
]
"""Matrices are [out, in], as in PyTorch; query, key and value are one."""
QKV_BIAS = EXTRA_PREFIX + "qkv_bias"


def config_from(settings: GGUFSettings) -> GPTConfig:
    """Convert the settings of a file; see `GGUFFamily.config_from`."""
    counts: dict[str, Any] = {ours: settings.count(theirs) for theirs, ours in COUNTS.items()}
    if counts["emb_dim"] % counts["n_heads"]:
        raise settings.unsupported(
            "embedding_length", f"a multiple of attention.head_count={counts['n_heads']}"
        )
    ff_dim = settings.count("feed_forward_length", 4 * counts["emb_dim"])
    return GPTConfig(
        **counts,
        vocab_size=settings.n_tokens,
        drop_rate=0.0,
        qkv_bias=settings.flag(QKV_BIAS, True),
        tie_embeddings=settings.head_is_tied,
        ff_dim=None if ff_dim == 4 * counts["emb_dim"] else ff_dim,
        norm_eps=settings.number("attention.layer_norm_epsilon"),
    )


def config_to(cfg: GPTConfig) -> dict[str, Any]:
    """Convert our settings; see `GGUFFamily.config_to`."""
    for name, value in REQUIRED.items():
        if cfg[name] != value:
            raise UserError(
                f"{name}={cfg[name]}: llama.cpp computes a GPT-2 only with {value};"
                " use `llm-scratch export hf`"
            )
    return {
        **{theirs: cfg[ours] for theirs, ours in COUNTS.items()},
        "feed_forward_length": cfg.ff_dim or 4 * cfg.emb_dim,
        "attention.layer_norm_epsilon": cfg.norm_eps,
        QKV_BIAS: cfg.qkv_bias,
    }


GPT2 = GGUFFamily("gpt", config_from, config_to, lambda cfg: RULES, has_all_biases=True)
