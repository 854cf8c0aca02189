"""Gemma 2 and 3: equal to transformers on random tiny configs."""

import pytest
from family_checks import SIZES, Twins, check_all
from transformers import Gemma2Config, Gemma3TextConfig

OWN = {"head_dim": 8, "sliding_window": 9, "query_pre_attn_scalar": 8, "num_hidden_layers": 3}


def gemma2(**changes):
    return Gemma2Config(**SIZES | OWN | changes)


def gemma3(**changes):
    return Gemma3TextConfig(**SIZES | OWN | changes)


CONFIGS = {
    "Gemma 2": gemma2(attn_logit_softcapping=2.0, final_logit_softcapping=1.5),
    "Gemma 2, another score scale, untied": gemma2(
        query_pre_attn_scalar=23, num_key_value_heads=6, tie_word_embeddings=False
    ),
    "Gemma 2 without soft-caps": gemma2(
        attn_logit_softcapping=None, final_logit_softcapping=None, num_key_value_heads=1
    ),
    "Gemma 3": gemma3(num_hidden_layers=6),
    "Gemma 3, every second layer, odd sizes": gemma3(
        hidden_size=21,
        intermediate_size=33,
        num_attention_heads=3,
        num_key_value_heads=1,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "Gemma 3, the far layers scaled": gemma3(
        layer_types=["sliding_attention"] * 2 + ["full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
