"""DeepSeek-V3 in Hugging Face transformers.

Tests: tests/model/test_deepseek.py.
Source: https://huggingface.co/docs/transformers, DeepseekV3Config.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_scratch.architectures.deepseek import DeepSeekConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.hf_decoder import (
    FEED_FORWARD_RULES,
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
from llm_scratch.interop.weight_map import Rule, in_groups
from llm_scratch.model.rope import yarn_magnitude

SIZES = {
    "n_routed_experts": "n_experts",
    "moe_intermediate_size": "expert_dim",
    "kv_lora_rank": "latent_dim",
    "qk_nope_head_dim": "head_dim",
    "qk_rope_head_dim": "rotated_dim",
    "v_head_dim": "value_dim",
    "n_shared_experts": "n_shared_experts",
    "n_group": "n_groups",
    "topk_group": "groups_per_token",
}
"""Field of DeepseekV3Config -> field of DeepSeekConfig."""
DEFAULTS = {"q_lora_rank": 1536, "first_k_dense_replace": 3}


def config_from(config: Mapping[str, Any], path: Path) -> DeepSeekConfig:
    """Convert a DeepseekV3Config; see `Family.config_from`."""
    require(config, path, hidden_act="silu", rope_interleave=True)
    require(config, path, topk_method="noaux_tc", scoring_func="sigmoid", moe_layer_freq=1)
    heads = config.get("num_attention_heads")
    require(config, path, num_key_value_heads=heads)
    plain = {**config, "head_dim": None, "num_key_value_heads": None}
    settings = {**read_mixture(plain, path, SIZES), **_read_rope(config, path)}
    if config.get("q_lora_rank") is not None:
        settings |= positive_integers(config, path, {"q_lora_rank": "query_latent_dim"})
    dense = config.get("first_k_dense_replace")
    if type(dense) is not int or dense < 0:
        raise unsupported(config, path, "first_k_dense_replace", "a whole number")
    settings |= {
        "n_dense_layers": dense,
        "balance_loss": number(config, path, "router_aux_loss_coef", 0.0001),
        "weight_scale": number(config, path, "routed_scaling_factor", 2.5),
        "normalize_weights": switch(config, path, "norm_topk_prob", True),
        "attention_bias": switch(config, path, "attention_bias", False),
    }
    return make(DeepSeekConfig, settings, path)


def _read_rope(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Rotary positions; "mscale_all_dim" of "yarn" is a factor of the scores here."""
    rope = rope_fields(config, path)
    part, whole = (number(rope, path, name, 0.0) for name in ("mscale", "mscale_all_dim"))
    plain = {key: value for key, value in rope.items() if not key.startswith("mscale")}
    settings = read_rope({**config, "rope_parameters": plain}, path)
    if not whole:
        return settings
    if settings["rope_scaling"] != "yarn":
        raise unsupported(rope, path, "mscale_all_dim", "nothing unless rope_type is yarn")
    factor = settings.get("rope_factor", 1.0)
    magnitude = yarn_magnitude(factor, whole)
    if part and "rope_attention_factor" not in settings:
        settings["rope_attention_factor"] = yarn_magnitude(factor, part) / magnitude
    return settings | {"score_scale": magnitude**2}


def config_to(cfg: DeepSeekConfig) -> dict[str, Any]:
    """Make the fields of a DeepseekV3Config; see `Family.config_to`."""
    if not cfg.n_shared_experts:
        raise UserError(
            "n_shared_experts=0: transformers has at least one; train with 1 to export the model"
        )
    rope = written_rope(cfg)
    if cfg.score_scale != 1:
        if cfg.rope_scaling != "yarn" or cfg.rope_factor <= 1 or cfg.score_scale < 1:
            raise UserError(
                f"score_scale={cfg.score_scale:g}:"
                " transformers has it with rope_scaling yarn only, at least 1; set it to 1"
            )
        share = (cfg.score_scale**0.5 - 1) / (0.1 * math.log(cfg.rope_factor))
        for name in ("rope_parameters", "rope_scaling"):
            rope[name] = {**rope[name], "mscale_all_dim": share}
    return {
        **written_settings(cfg),
        **rope,
        **{theirs: cfg[ours] for theirs, ours in SIZES.items()},
        "hidden_act": "silu",
        "moe_intermediate_size": cfg.expert_size,
        "num_experts_per_tok": cfg.experts_per_token,
        "kv_lora_rank": cfg.latent_size,
        "q_lora_rank": cfg.query_latent_dim,
        "qk_nope_head_dim": cfg.head_size,
        "qk_rope_head_dim": cfg.rotated_size,
        "v_head_dim": cfg.value_size,
        "head_dim": cfg.rotated_size,
        "rope_interleave": True,
        "first_k_dense_replace": cfg.n_dense_layers,
        "routed_scaling_factor": cfg.weight_scale,
        "norm_topk_prob": cfg.normalize_weights,
        "router_aux_loss_coef": cfg.balance_loss,
        "attention_bias": cfg.attention_bias,
        "num_nextn_predict_layers": 0,
    }


def rules(cfg: DeepSeekConfig) -> Sequence[Rule]:
    """The names of all tensors."""
    ours, theirs = "trf_blocks.#.att", "model.layers.#.self_attn"
    query = "q_proj" if cfg.query_latent_dim is None else "q_b_proj"
    modules = {
        "query_down.0": "q_a_proj",
        "query_down.1": "q_a_layernorm",
        "query_up": query,
        "latent_down": "kv_a_proj_with_mqa",
        "latent_norm": "kv_a_layernorm",
    }
    halves = in_groups(cfg.n_heads, cfg.head_size, cfg.value_size)
    attention = [
        *(
            Rule(f"{ours}.{own}.{kind}", f"{theirs}.{name}.{kind}")
            for own, name in modules.items()
            for kind in ("weight", "bias")
        ),
        Rule(f"{ours}.{{W_key,W_value}}.weight", f"{theirs}.kv_b_proj.weight", halves),
    ]
    ff = [*FEED_FORWARD_RULES, *mixture_rules(cfg, "shared_experts")]
    output = [rule for rule in decoder_rules(ff=ff) if ".att.W_" not in rule.ours]
    return [output[0], *attention, *output[1:]]


DEEPSEEK_V3 = Family(
    "deepseek",
    "DeepseekV3ForCausalLM",
    config_from,
    config_to,
    rules,
    "model.",
    # after the 61 layers of the published model: the head for a second token
    ignored=re.compile(r"model\.layers\.61\..*"),
    defaults=DEFAULTS,
)
