"""Llama, Mistral and SmolLM3: equal to transformers on random tiny configs."""

import pytest
from family_checks import SIZES, YARN, Twins, check_all
from transformers import LlamaConfig, MistralConfig, SmolLM3Config

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.5}


def llama(**changes):
    return LlamaConfig(**SIZES | changes)


def mistral(**changes):
    return MistralConfig(**SIZES | changes)


def smollm3(**changes):
    return SmolLM3Config(**SIZES | {"num_hidden_layers": 4} | changes)


CONFIGS = {
    "Llama 2": llama(num_key_value_heads=6),
    "Llama 3": llama(rope_parameters=LLAMA3, head_dim=8, rms_norm_eps=1e-5),
    "one key/value head, tied": llama(num_key_value_heads=1, tie_word_embeddings=True),
    "linear scaling, biases": llama(rope_parameters=LINEAR, attention_bias=True, mlp_bias=True),
    "YaRN, odd width": llama(
        rope_parameters=YARN,
        hidden_size=18,
        num_attention_heads=3,
        num_key_value_heads=3,
        num_hidden_layers=3,
    ),
    "Mistral with a window": mistral(sliding_window=9),
    "Mistral without a window": mistral(sliding_window=None, head_dim=6),
    "SmolLM3": smollm3(tie_word_embeddings=True),
    "SmolLM3, every second layer": smollm3(
        no_rope_layer_interval=2, num_attention_heads=4, tie_word_embeddings=False
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name):
    check_all(Twins.of(CONFIGS[name]))
