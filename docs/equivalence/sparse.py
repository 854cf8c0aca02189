"""Mixtures of experts, latent attention, the delta rule: rows of docs/equivalence.md."""

from __future__ import annotations

from typing import Any

import torch

from equivalence import CONFIG, max_difference, row, transformers_twin
from llm_scratch.model import build


def against_transformers(architecture: str, **settings: Any) -> float:
    """The difference of a tiny model's logits from those of transformers, which reads its files."""
    shape = {name: value for name, value in CONFIG.items() if name != "qkv_bias"}
    ours = build(shape | {"architecture": architecture} | settings).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(0, 97, (2, 32))
    return max_difference(ours(ids), transformers_twin(ours)(ids).logits)


@row(
    "mixture of experts",
    "model/qwen_moe.QwenMoEModel",
    "transformers' Qwen3MoeForCausalLM",
    "model/test_qwen_moe.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.qwen_moe",
)
def _qwen_moe() -> float:
    return against_transformers("qwen_moe")


@row(
    "sinks and windows",
    "model/gpt_oss.GPTOSSModel",
    "transformers' GptOssForCausalLM",
    "model/test_gpt_oss.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.gpt_oss",
)
def _gpt_oss() -> float:
    return against_transformers("gpt_oss", window=9)


@row(
    "latent attention",
    "model/deepseek.DeepSeekModel",
    "transformers' DeepseekV3ForCausalLM",
    "model/test_deepseek.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.deepseek",
)
def _deepseek() -> float:
    return against_transformers("deepseek", query_latent_dim=10, n_groups=2, groups_per_token=1)


@row(
    "gated delta rule",
    "model/qwen_next.QwenNextModel",
    "transformers' Qwen3NextForCausalLM",
    "model/test_qwen_next.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.qwen_next",
)
def _qwen_next() -> float:
    return against_transformers("qwen_next", full_every=2)
