"""DeepSeek-V3: equal to transformers on random tiny configs."""

import pytest
from family_checks import Twins, check_all, every
from transformers import DeepseekV3Config

SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 70,
    "hidden_size": 24,
    "intermediate_size": 40,
    "moe_intermediate_size": 14,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_group": 3,
    "topk_group": 2,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "kv_lora_rank": 10,
    "q_lora_rank": None,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 18,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
}


def config(**changes):
    return DeepseekV3Config(**SIZES | changes)


CONFIGS = {
    "queries without a latent": config(),
    "queries with a latent, biases": config(q_lora_rank=9, attention_bias=True),
    "one group, mixtures only, as they are": config(
        n_group=1, topk_group=1, first_k_dense_replace=0, norm_topk_prob=False
    ),
    "YaRN as published": config(rope_parameters=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    "YaRN with two magnitudes": config(
        rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 1.2}, q_lora_rank=6
    ),
    "odd sizes, two shared experts, three layers, tied": config(
        hidden_size=15,
        kv_lora_rank=5,
        qk_rope_head_dim=2,
        v_head_dim=3,
        moe_intermediate_size=9,
        n_shared_experts=2,
        num_hidden_layers=3,
        tie_word_embeddings=True,
    ),
    "dense layers only": config(first_k_dense_replace=2),
}


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_deepseek_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
