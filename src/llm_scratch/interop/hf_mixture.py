"""What the families with mixtures of experts share in Hugging Face transformers.

In a file every expert has tensors of its own, as here; only the model in memory stacks them.
Tests: those of each family, such as tests/model/test_qwen_moe.py.
Source: https://huggingface.co/docs/transformers, Qwen3MoeConfig, DeepseekV3Config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.architectures.mixture import MixtureConfig
from llm_scratch.interop.hf_decoder import number, read_settings
from llm_scratch.interop.hf_family import positive_integers
from llm_scratch.interop.weight_map import Rule

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def mixture_rules(cfg: MixtureConfig, shared: str = "shared_expert") -> list[Rule]:
    """The names of all tensors of a mixture of gated networks.

    Args:
        cfg: the model's settings.
        shared: their name of the shared expert.
    """
    ours, theirs = "trf_blocks.#.ff", "model.layers.#.mlp"
    modules = {
        "router.linear": "gate",
        "shared_gate": "shared_expert_gate",
        **{f"shared.{name}": f"{shared}.{name}" for name in PROJECTIONS},
        **{
            f"experts.{e}.{name}": f"experts.{e}.{name}"
            for e in range(cfg.n_experts)
            for name in PROJECTIONS
        },
    }
    return [
        *(Rule(f"{ours}.{own}.weight", f"{theirs}.{name}.weight") for own, name in modules.items()),
        Rule(f"{ours}.router.balance_bias", f"{theirs}.gate.e_score_correction_bias"),
    ]


def read_mixture(config: Mapping[str, Any], path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a `MixtureConfig` except those of rotary positions.

    Args:
        config: of transformers, completed by the defaults of its class.
        path: its file, for errors.
        names: their name of a size -> ours, in addition to those that all families have.
    Raises:
        UserError: one is missing or not supported; names it (code 4).
    """
    sizes = positive_integers(config, path, {"num_experts_per_tok": "experts_per_token", **names})
    balance = number(config, path, "router_aux_loss_coef", 0.001)
    return {**read_settings(config, path), **sizes, "balance_loss": balance}
