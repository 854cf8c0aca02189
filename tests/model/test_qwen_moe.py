"""Qwen3-MoE: equal to transformers on random tiny configs."""

import pytest
from family_checks import Twins, check_all, every
from transformers import Qwen3MoeConfig

SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 70,
    "hidden_size": 24,
    "intermediate_size": 40,
    "moe_intermediate_size": 14,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "norm_topk_prob": True,
}


def config(**changes):
    return Qwen3MoeConfig(**SIZES | changes)


CONFIGS = {
    "normalized weights": config(),
    "as they are, another head size": config(norm_topk_prob=False, head_dim=10),
    "every expert": config(num_experts_per_tok=6, num_key_value_heads=6),
    "one expert of many, tied": config(
        num_experts_per_tok=1, norm_topk_prob=False, tie_word_embeddings=True
    ),
    "odd sizes, biases": config(
        num_experts=5,
        num_experts_per_tok=3,
        moe_intermediate_size=9,
        hidden_size=18,
        num_attention_heads=3,
        num_key_value_heads=1,
        num_hidden_layers=3,
        attention_bias=True,
    ),
}


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_qwen_moe_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
