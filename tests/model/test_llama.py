"""Llama, Mistral and SmolLM3: equal to transformers on random tiny configs."""

from functools import cache
from pathlib import Path

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
from transformers import LlamaConfig, MistralConfig, SmolLM3Config

from llm_scratch.architectures import LlamaConfig as Ours
from llm_scratch.errors import USAGE, UserError
from llm_scratch.interop.hf import config_of, to_config

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


@cache
def twins(name):
    return Twins.of(CONFIGS[name])


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_llama_equals_transformers(name):
    check_all(twins(name))


@pytest.mark.parametrize("name", every(3, CONFIGS))
def test_exported_llama_is_read_by_transformers_and_by_us(name, tmp_path):
    check_export(twins(name), tmp_path)


SHAPE = {"vocab_size": 61, "context_length": 20, "emb_dim": 24, "n_heads": 6, "n_layers": 3}


@pytest.mark.parametrize(
    "extra",
    [{"window": 20}, {"no_rope_every": 4}, {"rope_scaling": "llama3", "rope_factor": 1.0}],
    ids=str,
)
def test_extra_without_effect_equals_plain_llama(extra):
    assert_same_model(Ours(**SHAPE, **extra), Ours(**SHAPE))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (llama(hidden_act="gelu"), "hidden_act is 'gelu'; expected silu"),
        (llama(pretraining_tp=2), "pretraining_tp is '2'; expected 1"),
        (llama(num_key_value_heads=4), "n_kv_heads=4 does not divide n_heads=6"),
        (llama(rope_parameters=YARN | {"truncate": False}), "truncate is 'False'"),
        (llama(rope_parameters=YARN | {"mscale": 0.7}), "mscale is '0.7'"),
        (
            llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rope_type is 'dynamic'; expected default or linear or llama3 or yarn",
        ),
        (smollm3(no_rope_layers=[0, 1, 1, 0]), "no_rope_layers is"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_unsupported_llama_setting_is_named(config, message):
    assert_refused(config.to_dict(), message)


def test_older_names_of_rotary_settings_are_read():
    config = llama(rope_parameters=LLAMA3).to_dict()
    scaling = config.pop("rope_parameters")
    older = config | {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}
    assert config_of(older, Path("config.json")) == config_of(
        llama(rope_parameters=LLAMA3).to_dict(), Path("config.json")
    )


def test_llama_export_refuses_settings_unknown_to_transformers():
    with pytest.raises(UserError, match="llama and mistral and smollm3 each have a part") as error:
        to_config(Ours(**SHAPE, window=5, no_rope_every=2), None, None)
    assert error.value.code == USAGE
