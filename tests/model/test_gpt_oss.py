"""gpt-oss: equal to transformers on random tiny configs."""

import pytest
from family_checks import Twins, check_all, every
from transformers import GptOssConfig

SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 70,
    "hidden_size": 24,
    "intermediate_size": 14,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "sliding_window": 9,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 18,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
    "truncate": False,
}


def config(**changes):
    return GptOssConfig(**SIZES | changes)


CONFIGS = {
    "plain": config(),
    "YaRN": config(rope_parameters=YARN, head_dim=12),
    "limits are reached": config(swiglu_limit=0.2, swiglu_alpha=1.1),
    "every layer has a window, no biases": config(
        layer_types=["sliding_attention"] * 2, attention_bias=False, num_experts_per_tok=6
    ),
    "odd sizes, three layers": config(
        num_local_experts=5,
        num_experts_per_tok=3,
        intermediate_size=9,
        num_attention_heads=3,
        num_key_value_heads=1,
        num_hidden_layers=3,
        head_dim=6,
        sliding_window=5,
    ),
}


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_gpt_oss_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
