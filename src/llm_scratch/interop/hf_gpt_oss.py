"""gpt-oss in Hugging Face transformers; its published weights are in MXFP4 (`mxfp4.py`).

Tests: tests/model/test_gpt_oss.py.
Source: https://huggingface.co/docs/transformers, GptOssConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_scratch.architectures.gpt_oss import GPTOSSConfig
from llm_scratch.interop.hf_decoder import (
    decoder_rules,
    layer_types,
    make,
    number,
    read_rope,
    read_windows,
    require,
    rope_fields,
    switch,
    written_rope,
    written_settings,
)
from llm_scratch.interop.hf_family import Family, unsupported
from llm_scratch.interop.hf_mixture import read_mixture
from llm_scratch.interop.weight_map import Rule, Transform

YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}
DEFAULTS = {
    "num_key_value_heads": 8,
    "head_dim": 64,
    "rope_theta": 150_000.0,
    "rope_scaling": YARN,
    "sliding_window": 128,
    "rms_norm_eps": 1e-5,
}


def config_from(config: Mapping[str, Any], path: Path) -> GPTOSSConfig:
    """Convert a GptOssConfig; see `Family.config_from`."""
    require(config, path, hidden_act="silu")
    rope = rope_fields(config, path)
    if rope.pop("truncate", True) and rope.get("rope_type", rope.get("type")) == "yarn":
        raise unsupported({"truncate": True}, path, "truncate", "false, the only supported value")
    settings = read_mixture(config, path, {"num_local_experts": "n_experts"})
    settings |= {
        "ff_dim": settings["ff_dim"] * settings["experts_per_token"],  # theirs is of an expert
        **read_rope({**config, "rope_parameters": rope}, path),
        **read_windows(config, path, settings["n_layers"], 2),
        "attention_bias": switch(config, path, "attention_bias", True),
        "gate_limit": number(config, path, "swiglu_limit", 7.0),
        "gate_slope": number(config, path, "swiglu_alpha", 1.702),
    }
    return make(GPTOSSConfig, settings, path)


def config_to(cfg: GPTOSSConfig) -> dict[str, Any]:
    """Make the fields of a GptOssConfig; see `Family.config_to`."""
    rope = written_rope(cfg)
    if cfg.rope_scaling == "yarn":
        for name in ("rope_parameters", "rope_scaling"):
            rope[name] = {**rope[name], "truncate": False}
    return {
        **written_settings(cfg),
        **rope,
        "hidden_act": "silu",
        "intermediate_size": cfg.expert_size,
        "num_local_experts": cfg.n_experts,
        "num_experts_per_tok": cfg.experts_per_token,
        "router_aux_loss_coef": cfg.balance_loss,
        "attention_bias": cfg.attention_bias,
        "sliding_window": cfg.window,
        "layer_types": layer_types(cfg.windows),
        "swiglu_limit": cfg.gate_limit,
        "swiglu_alpha": cfg.gate_slope,
    }


def _stacked(n_outputs: int) -> Transform:
    """One tensor of all experts, of the layout [expert, in, out], or [expert, out] for biases.

    Args:
        n_outputs: projections that it holds; their columns take turns.
    """

    def to_ours(tensor: Tensor) -> list[Tensor]:
        rows = tensor.mT if tensor.dim() == 3 else tensor  # by output, in the second dimension
        return [expert[start::n_outputs] for expert in rows for start in range(n_outputs)]

    def to_theirs(*parts: Tensor) -> Tensor:
        experts = [
            torch.stack(parts[i : i + n_outputs], 1).flatten(0, 1)
            for i in range(0, len(parts), n_outputs)
        ]
        rows = torch.stack(experts)
        return rows.mT if rows.dim() == 3 else rows

    return Transform(to_ours, to_theirs, splits=True)


def rules(cfg: GPTOSSConfig) -> Sequence[Rule]:
    """The names of all tensors; a file has those of all experts in one."""
    ours, theirs = "trf_blocks.#.ff", "model.layers.#.mlp"
    experts = range(cfg.n_experts)
    gate_up = ",".join(f"{e}.{name}" for e in experts for name in ("gate_proj", "up_proj"))
    down = ",".join(f"{e}.down_proj" for e in experts)
    ff = [
        *(
            Rule(f"{ours}.router.linear.{kind}", f"{theirs}.router.{kind}")
            for kind in ("weight", "bias")
        ),
        *(
            Rule(f"{ours}.experts.{{{names}}}.{kind}", f"{theirs}.experts.{name}{end}", transform)
            for names, name, transform in (
                (gate_up, "gate_up_proj", _stacked(2)),
                (down, "down_proj", _stacked(1)),
            )
            for kind, end in (("weight", ""), ("bias", "_bias"))
        ),
        Rule("trf_blocks.#.att.sinks", "model.layers.#.self_attn.sinks"),
    ]
    return decoder_rules(ff=ff)


GPT_OSS = Family(
    "gpt_oss",
    "GptOssForCausalLM",
    config_from,
    config_to,
    rules,
    "model.",
    defaults=DEFAULTS,
    reads_mxfp4=True,
)
