"""Qwen3-MoE in Hugging Face transformers.

Tests: tests/model/test_qwen_moe.py.
Source: https://huggingface.co/docs/transformers, Qwen3MoeConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_scratch.architectures.qwen_moe import QwenMoEConfig
from llm_scratch.interop.hf_decoder import (
    decoder_rules,
    make,
    read_rope,
    require,
    switch,
    written_rope,
    written_settings,
)
from llm_scratch.interop.hf_family import Family
from llm_scratch.interop.hf_mixture import mixture_rules, read_mixture
from llm_scratch.interop.weight_map import Rule

DEFAULTS = {"num_key_value_heads": 4, "num_experts": 128}


def config_from(config: Mapping[str, Any], path: Path) -> QwenMoEConfig:
    """Convert a Qwen3MoeConfig; see `Family.config_from`."""
    require(config, path, hidden_act="silu", decoder_sparse_step=1, use_sliding_window=False)
    require(config, path, mlp_only_layers=[])
    if config.get("num_local_experts") is not None:  # its name in transformers 5
        config = {**config, "num_experts": config["num_local_experts"]}
    settings = {
        **read_mixture(
            config, path, {"num_experts": "n_experts", "moe_intermediate_size": "expert_dim"}
        ),
        **read_rope(config, path),
        "normalize_weights": switch(config, path, "norm_topk_prob", False),
        "attention_bias": switch(config, path, "attention_bias", False),
    }
    return make(QwenMoEConfig, settings, path)


def config_to(cfg: QwenMoEConfig) -> dict[str, Any]:
    """Make the fields of a Qwen3MoeConfig; see `Family.config_to`."""
    return {
        **written_settings(cfg),
        **written_rope(cfg),
        "hidden_act": "silu",
        "num_experts": cfg.n_experts,
        "num_experts_per_tok": cfg.experts_per_token,
        "moe_intermediate_size": cfg.expert_size,
        "norm_topk_prob": cfg.normalize_weights,
        "router_aux_loss_coef": cfg.balance_loss,
        "attention_bias": cfg.attention_bias,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
    }


def rules(cfg: QwenMoEConfig) -> Sequence[Rule]:
    """The names of all tensors."""
    return decoder_rules(qk_norm=True, ff=mixture_rules(cfg))


QWEN3_MOE = Family(
    "qwen_moe", "Qwen3MoeForCausalLM", config_from, config_to, rules, "model.", defaults=DEFAULTS
)
