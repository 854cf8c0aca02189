"""What the families after GPT-2 share in GGUF files: settings, and names of tensors.

Tests: tests/interop/test_gguf_families.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (src/models, conversion).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llm_scratch.architectures.decoder import DecoderConfig
from llm_scratch.interop.gguf_family import GGUFSettings
from llm_scratch.interop.gguf_rope import SCALINGS, read_rope, written_rope
from llm_scratch.interop.weight_map import SAME, Rule, Transform

COUNTS = {
    "context_length": "context_length",
    "embedding_length": "emb_dim",
    "block_count": "n_layers",
    "attention.head_count": "n_heads",
    "feed_forward_length": "ff_dim",
}
"""Name in a file -> field of DecoderConfig."""
PRE_NORMS = {"norm1": "attn_norm", "norm2": "ffn_norm"}
"""Norm of a block with norms before its parts -> its name in a file."""


def read_decoder(settings: GGUFSettings, scalings: Collection[str] = SCALINGS) -> dict[str, Any]:
    """The settings of a `DecoderConfig`.

    Args:
        settings: of a file.
        scalings: of rotary positions, those that are supported.
    Raises:
        UserError: one is missing or not supported; names it (code 4).
    """
    values: dict[str, Any] = {ours: settings.count(theirs) for theirs, ours in COUNTS.items()}
    head_dim = settings.count(
        "attention.key_length", max(values["emb_dim"] // values["n_heads"], 1)
    )
    for key in ("attention.value_length", "rope.dimension_count"):
        if settings.count(key, head_dim) != head_dim:
            raise settings.unsupported(key, f"{head_dim}, the size of a head")
    if settings.number("expert_count", 0) != 0:
        raise settings.unsupported("expert_count", "0: a mixture of experts is not supported")
    return values | {
        "vocab_size": settings.n_tokens,
        "n_kv_heads": settings.count("attention.head_count_kv", values["n_heads"]),
        "head_dim": head_dim,
        "norm_eps": settings.number("attention.layer_norm_rms_epsilon"),
        **read_rope(settings, head_dim, scalings),
        "tie_embeddings": settings.head_is_tied,
    }


def written_decoder(cfg: DecoderConfig) -> dict[str, Any]:
    """The metadata of a `DecoderConfig`."""
    return {
        **{theirs: cfg[ours] for theirs, ours in COUNTS.items()},
        "feed_forward_length": cfg.ff_size,
        "attention.head_count_kv": cfg.kv_heads,
        "attention.key_length": cfg.head_size,
        "attention.value_length": cfg.head_size,
        "attention.layer_norm_rms_epsilon": cfg.norm_eps,
        "rope.dimension_count": cfg.head_size,
        **written_rope(cfg),
    }


def decoder_rules(
    norms: Mapping[str, str] = PRE_NORMS,
    *,
    qk_norm: bool = False,
    query: Transform = SAME,
    key: Transform = SAME,
    norm: Transform = SAME,
) -> list[Rule]:
    """The names of all tensors of a family.

    Args:
        norms: norm of a block -> its name in a file.
        qk_norm: whether queries and keys have norms.
        query, key: how the rows of these projections differ.
        norm: how the weights of norms differ.
    """
    projections = {
        "att.W_query": ("attn_q", query),
        "att.W_key": ("attn_k", key),
        "att.W_value": ("attn_v", SAME),
        "att.out_proj": ("attn_output", SAME),
        "ff.gate_proj": ("ffn_gate", SAME),
        "ff.up_proj": ("ffn_up", SAME),
        "ff.down_proj": ("ffn_down", SAME),
    }
    of_heads = {"att.q_norm": "attn_q_norm", "att.k_norm": "attn_k_norm"} if qk_norm else {}
    return [
        Rule("tok_emb.weight", "token_embd.weight"),
        *(
            Rule(f"trf_blocks.#.{ours}.{kind}", f"blk.#.{theirs}.{kind}", transform)
            for ours, (theirs, transform) in projections.items()
            for kind in ("weight", "bias")
        ),
        *(
            Rule(f"trf_blocks.#.{ours}.weight", f"blk.#.{theirs}.weight", norm)
            for ours, theirs in {**norms, **of_heads}.items()
        ),
        Rule("final_norm.weight", "output_norm.weight", norm),
        Rule("out_head.weight", "output.weight"),
    ]


def interleaved(n_heads: int) -> Transform:
    """Reorder the rows of a projection to llama.cpp's order of rotary pairs.

    Here dimension i of a head is rotated with i + D / 2, in llama.cpp's Llama 2 i with 2 i + 1.
    """

    def to_theirs(rows: Any) -> Any:
        halves = rows.unflatten(0, (n_heads, 2, -1))  # [H, 2, D/2, ...]
        return halves.transpose(1, 2).flatten(0, 2)

    def to_ours(rows: Any) -> Any:
        pairs = rows.unflatten(0, (n_heads, -1, 2))  # [H, D/2, 2, ...]
        return pairs.transpose(1, 2).flatten(0, 2)

    return Transform(to_ours, to_theirs)
