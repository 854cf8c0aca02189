"""Qwen2 and Qwen3: equal to transformers on random tiny configs."""

from functools import cache

import pytest
from family_checks import (
    SIZES,
    YARN,
    Twins,
    assert_refused,
    assert_same_model,
    check_all,
    check_export,
    every,
)
from transformers import Qwen2Config, Qwen3Config

from llm_scratch.architectures import LlamaConfig, QwenConfig


def qwen2(**changes):
    return Qwen2Config(**SIZES | changes)


def qwen3(**changes):
    return Qwen3Config(**SIZES | {"head_dim": 8} | changes)


WINDOW = {"use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 3}
TWO_LAYERS = {"num_hidden_layers": 2, "max_window_layers": 1}
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


@cache
def twins(name):
    return Twins.of(CONFIGS[name])


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_qwen_equals_transformers(name):
    check_all(twins(name))


@pytest.mark.parametrize("name", every(3, CONFIGS))
def test_exported_qwen_is_read_by_transformers_and_by_us(name, tmp_path):
    check_export(twins(name), tmp_path)


SHAPE = {"vocab_size": 61, "context_length": 20, "emb_dim": 24, "n_heads": 6, "n_layers": 3}


def test_qwen_without_its_extras_equals_llama():
    plain = QwenConfig(**SHAPE, qk_norm=False, rope_base=1e4)
    assert_same_model(plain, LlamaConfig(**SHAPE))


def test_window_from_a_layer_that_does_not_exist_equals_none():
    assert_same_model(QwenConfig(**SHAPE, window=3, window_from_layer=3), QwenConfig(**SHAPE))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (qwen2(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (qwen3(attention_bias=True), "attention_bias is 'True'"),
        (
            qwen3(layer_types=["sliding_attention", "full_attention"], **WINDOW | TWO_LAYERS),
            "layer_types is",
        ),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_unsupported_qwen_setting_is_named(config, message):
    assert_refused(config.to_dict(), message)
