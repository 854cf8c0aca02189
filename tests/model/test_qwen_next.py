"""Qwen3-Next: equal to transformers on random tiny configs."""

import pytest
import torch
from family_checks import Twins, check_all, every
from transformers import Qwen3NextConfig

SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 70,
    "hidden_size": 24,
    "intermediate_size": 40,
    "moe_intermediate_size": 14,
    "shared_expert_intermediate_size": 10,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "full_attention_interval": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 6,
}


def config(**changes):
    return Qwen3NextConfig(**SIZES | changes)


CONFIGS = {
    "half of the layers": config(),
    "one of four": config(num_hidden_layers=4, full_attention_interval=4),
    "as many key heads, weights as they are": config(
        linear_num_key_heads=3, linear_num_value_heads=3, norm_topk_prob=False
    ),
    "attention only, biases, all of a head is rotated": config(
        full_attention_interval=1, attention_bias=True, partial_rotary_factor=1.0
    ),
    "odd sizes, long convolution, tied": config(
        hidden_size=15,
        linear_conv_kernel_dim=7,
        linear_key_head_dim=3,
        linear_value_head_dim=5,
        moe_intermediate_size=9,
        num_experts=5,
        num_experts_per_tok=3,
        num_hidden_layers=3,
        tie_word_embeddings=True,
    ),
    "no convolution": config(linear_conv_kernel_dim=1),
}


def norms_around_one(theirs):
    """Norms multiply by 1 + weight; twice the size would amplify rounding."""
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name and "linear_attn" not in name:
                parameter -= 1


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_qwen_next_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name], change=norms_around_one))
