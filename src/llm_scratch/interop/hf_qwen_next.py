"""Qwen3-Next in Hugging Face transformers.

Tests: tests/model/test_qwen_next.py.
Source: https://huggingface.co/docs/transformers, Qwen3NextConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from llm_scratch.architectures.qwen_next import QwenNextConfig
from llm_scratch.interop.hf_decoder import (
    ATTENTION_RULES,
    QK_NORM_RULES,
    decoder_rules,
    make,
    number,
    read_rope,
    require,
    rope_fields,
    switch,
    written_rope,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, positive_integers, unsupported
from llm_scratch.interop.hf_mixture import mixture_rules, read_mixture
from llm_scratch.interop.weight_map import Rule, Transform, in_groups

SIZES = {
    "num_experts": "n_experts",
    "moe_intermediate_size": "expert_dim",
    "shared_expert_intermediate_size": "shared_dim",
    "linear_num_key_heads": "n_key_heads",
    "linear_num_value_heads": "n_value_heads",
    "linear_key_head_dim": "key_dim",
    "linear_value_head_dim": "value_dim",
    "linear_conv_kernel_dim": "conv_size",
}
"""Field of Qwen3NextConfig -> field of QwenNextConfig."""
DEFAULTS = {"num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4}
CHANNELS = Transform(lambda filters: filters[:, 0], lambda filters: filters[:, None])
"""Filters of a convolution have an input dimension of 1 there."""


def config_from(config: Mapping[str, Any], path: Path) -> QwenNextConfig:
    """Convert a Qwen3NextConfig; see `Family.config_from`."""
    require(config, path, hidden_act="silu", decoder_sparse_step=1, mlp_only_layers=[])
    settings = read_mixture(config, path, SIZES | {"head_dim": "head_dim"})
    settings |= {
        **_read_rope(config, path, settings["head_dim"]),
        "full_every": _full_every(config, path, settings["n_layers"]),
        "normalize_weights": switch(config, path, "norm_topk_prob", True),
        "attention_bias": switch(config, path, "attention_bias", False),
    }
    return make(QwenNextConfig, settings, path)


def _read_rope(config: Mapping[str, Any], path: Path, head_dim: int) -> dict[str, Any]:
    """Rotary positions of a part of each head."""
    rope = rope_fields(config, path)
    old = number(config, path, "partial_rotary_factor", 0.25)
    share = number({"partial_rotary_factor": old, **rope}, path, "partial_rotary_factor", old)
    rope.pop("partial_rotary_factor", None)
    settings = read_rope({**config, "rope_parameters": rope}, path)
    return settings | {"rotated_dim": int(head_dim * share)}


def _full_every(config: Mapping[str, Any], path: Path, n_layers: int) -> int:
    """Every how many layers one is attention."""
    types = config.get("layer_types")
    if types is None:
        interval = "full_attention_interval"
        return positive_integers(config, path, {interval: interval})[interval]
    full = "full_attention"
    has_full = isinstance(types, list) and full in types
    every: int = types.index(full) + 1 if has_full else n_layers + 1
    if types != _layer_types(n_layers, every):
        raise unsupported(
            config, path, "layer_types", "full_attention in every n-th layer, else linear_attention"
        )
    return every


def _layer_types(n_layers: int, every: int) -> list[str]:
    return [
        "linear_attention" if (layer + 1) % every else "full_attention" for layer in range(n_layers)
    ]


def config_to(cfg: QwenNextConfig) -> dict[str, Any]:
    """Make the fields of a Qwen3NextConfig; see `Family.config_to`."""
    rope, share = written_rope(cfg), cfg.rotated_size / cfg.head_size
    rope["rope_parameters"] = {**rope["rope_parameters"], "partial_rotary_factor": share}
    return {
        **written_settings(cfg),
        **rope,
        **{theirs: cfg[ours] for theirs, ours in SIZES.items()},
        "hidden_act": "silu",
        "moe_intermediate_size": cfg.expert_size,
        "shared_expert_intermediate_size": cfg.shared_size,
        "linear_num_key_heads": cfg.key_heads,
        "linear_num_value_heads": cfg.value_heads,
        "linear_key_head_dim": cfg.key_size,
        "linear_value_head_dim": cfg.value_size,
        "partial_rotary_factor": share,
        "num_experts_per_tok": cfg.experts_per_token,
        "norm_topk_prob": cfg.normalize_weights,
        "router_aux_loss_coef": cfg.balance_loss,
        "attention_bias": cfg.attention_bias,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "layer_types": _layer_types(cfg.n_layers, cfg.full_every),
    }


def rules(cfg: QwenNextConfig) -> Sequence[Rule]:
    """The names of all tensors; a layer has those of a delta rule or those of attention."""
    mixers = [
        _numbered(_attention_rules(cfg) if kind == "full_attention" else _delta_rules(cfg), layer)
        for layer, kind in enumerate(_layer_types(cfg.n_layers, cfg.full_every))
    ]
    others = [rule for rule in decoder_rules(ff=mixture_rules(cfg)) if ".att." not in rule.ours]
    return [*others, *chain.from_iterable(mixers)]


def _numbered(rules: Sequence[Rule], layer: int) -> list[Rule]:
    """Rules for one layer only."""
    return [
        rule._replace(
            ours=rule.ours.replace("#", str(layer)), theirs=rule.theirs.replace("#", str(layer))
        )
        for rule in rules
    ]


def _attention_rules(cfg: QwenNextConfig) -> list[Rule]:
    """The names of attention, whose gate is in the projection of queries there."""
    gated = in_groups(cfg.n_heads, cfg.head_size, cfg.head_size)
    queries = [
        Rule(
            f"trf_blocks.#.att.{{W_query,W_gate}}.{kind}",
            f"model.layers.#.self_attn.q_proj.{kind}",
            gated,
        )
        for kind in ("weight", "bias")
    ]
    others = [rule for rule in ATTENTION_RULES if ".W_query." not in rule.ours]
    return [*queries, *others, *QK_NORM_RULES]


def _delta_rules(cfg: QwenNextConfig) -> list[Rule]:
    """The names of a delta rule, whose projections are together there, by heads of keys."""
    ours, theirs = "trf_blocks.#.att", "model.layers.#.linear_attn"
    shared = cfg.value_heads // cfg.key_heads  # value heads of a key head
    values = shared * cfg.value_size
    projections = in_groups(cfg.key_heads, cfg.key_size, cfg.key_size, values, values)
    gates = in_groups(cfg.key_heads, shared, shared)
    names = "{W_query,W_key,W_value,W_gate}"
    return [
        Rule(f"{ours}.{names}.weight", f"{theirs}.in_proj_qkvz.weight", projections),
        Rule(f"{ours}.{{W_beta,W_decay}}.weight", f"{theirs}.in_proj_ba.weight", gates),
        Rule(f"{ours}.convolution", f"{theirs}.conv1d.weight", CHANNELS),
        Rule(f"{ours}.decay_log", f"{theirs}.A_log"),
        Rule(f"{ours}.decay_bias", f"{theirs}.dt_bias"),
        Rule(f"{ours}.norm.weight", f"{theirs}.norm.weight"),
        Rule(f"{ours}.out_proj.weight", f"{theirs}.out_proj.weight"),
    ]


QWEN3_NEXT = Family(
    "qwen_next",
    "Qwen3NextForCausalLM",
    config_from,
    config_to,
    rules,
    "model.",
    ignored=re.compile(r"mtp\..*"),
    defaults=DEFAULTS,
)
