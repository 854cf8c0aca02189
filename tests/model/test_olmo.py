"""OLMo 2 and 3: equal to transformers on random tiny configs."""

import pytest
from family_checks import SIZES, YARN, Twins, check_all
from transformers import Olmo2Config, Olmo3Config


def olmo2(**changes):
    return Olmo2Config(**SIZES | changes)


def olmo3(**changes):
    return Olmo3Config(**SIZES | {"num_hidden_layers": 4, "sliding_window": 9} | changes)


CONFIGS = {
    "OLMo 2": olmo2(),
    "OLMo 2, every head its own, tied": olmo2(num_key_value_heads=6, tie_word_embeddings=True),
    "OLMo 2, odd sizes": olmo2(
        hidden_size=18,
        intermediate_size=33,
        num_attention_heads=3,
        num_key_value_heads=1,
        num_hidden_layers=3,
    ),
    "OLMo 3": olmo3(),
    "OLMo 3, the far layers by YaRN": olmo3(
        rope_parameters={
            "full_attention": YARN,
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    ),
    "OLMo 3, every second layer": olmo3(
        layer_types=["sliding_attention", "full_attention"] * 2, sliding_window=5
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
