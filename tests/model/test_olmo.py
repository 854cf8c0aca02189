"""OLMo 2 and 3: equal to transformers on random tiny configs."""

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
from transformers import Olmo2Config, Olmo3Config

from llm_scratch.architectures import OlmoConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.hf import to_config


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


@cache
def twins(name):
    return Twins.of(CONFIGS[name])


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_olmo_equals_transformers(name):
    check_all(twins(name))


@pytest.mark.parametrize("name", every(3, CONFIGS))
def test_exported_olmo_is_read_by_transformers_and_by_us(name, tmp_path):
    check_export(twins(name), tmp_path)


SHAPE = {"vocab_size": 61, "context_length": 20, "emb_dim": 24, "n_heads": 6, "n_layers": 4}


@pytest.mark.parametrize("extra", [{"window": 20}, {"window": 3, "full_every": 1}], ids=str)
def test_olmo_3_without_windows_equals_olmo_2(extra):
    assert_same_model(OlmoConfig(**SHAPE, **extra), OlmoConfig(**SHAPE))


def test_raised_rope_base_that_windowed_layers_would_not_share_is_refused():
    cfg = OlmoConfig(**SHAPE, window=3, full_every=4, rope_scaling="ntk", rope_factor=2.0)
    with pytest.raises(UserError, match="transformers has no model with all of these settings"):
        to_config(cfg, None, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (olmo2(attention_bias=True), "attention_bias is 'True'"),
        (olmo3(layer_types=["full_attention", "sliding_attention"] * 2), "layer_types is"),
        (
            olmo3(
                rope_parameters={
                    "full_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
                }
            ),
            "rope_theta is '1000.0'; expected 10000.0",
        ),
        (
            olmo3(rope_parameters={"full_attention": YARN, "sliding_attention": YARN}),
            "rope_type is 'yarn'; expected default in layers with a window",
        ),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_unsupported_olmo_setting_is_named(config, message):
    assert_refused(config.to_dict(), message)
