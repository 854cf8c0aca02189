"""Qwen2 and Qwen3: equal to transformers on random tiny configs."""

import pytest
from family_checks import SIZES, YARN, Twins, check_all
from transformers import Qwen2Config, Qwen3Config


def qwen2(**changes):
    return Qwen2Config(**SIZES | changes)


def qwen3(**changes):
    return Qwen3Config(**SIZES | {"head_dim": 8} | changes)


WINDOW = {"use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 3}
CONFIGS = {
    "Qwen2": qwen2(),
    "Qwen2, tied, every head its own": qwen2(num_key_value_heads=6, tie_word_embeddings=True),
    "Qwen2, windows from layer 1 on": qwen2(max_window_layers=1, **WINDOW),
    "Qwen3": qwen3(),
    "Qwen3, tied, odd sizes": qwen3(
        hidden_size=21,
        intermediate_size=33,
        num_attention_heads=3,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "Qwen3 with YaRN": qwen3(rope_parameters=YARN, rms_norm_eps=1e-5),
    "Qwen3, windows everywhere": qwen3(max_window_layers=0, **WINDOW),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
