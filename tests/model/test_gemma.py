"""Gemma 2 and 3: equal to transformers on random tiny configs."""

from functools import cache

import pytest
from family_checks import (
    SIZES,
    Twins,
    assert_refused,
    assert_same_model,
    check_all,
    check_export,
    every,
)
from transformers import Gemma2Config, Gemma3TextConfig

from llm_scratch.architectures import GemmaConfig

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


@cache
def twins(name):
    return Twins.of(CONFIGS[name])


@pytest.mark.parametrize("name", every(2, CONFIGS))
def test_gemma_equals_transformers(name):
    check_all(twins(name))


@pytest.mark.parametrize("name", every(3, CONFIGS))
def test_exported_gemma_is_read_by_transformers_and_by_us(name, tmp_path):
    check_export(twins(name), tmp_path)


SHAPE = {"vocab_size": 61, "context_length": 20, "emb_dim": 24, "n_heads": 6, "n_layers": 3}


@pytest.mark.parametrize(
    "extra",
    [
        {"attention_softcap": 1e5, "logit_softcap": 1e5},
        {"window": 20, "rope_local_base": None},
        {"query_size": 4},
    ],
    ids=str,
)
def test_extra_without_effect_equals_plain_gemma(extra):
    assert_same_model(GemmaConfig(**SHAPE, **extra), GemmaConfig(**SHAPE))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (gemma2(hidden_activation="gelu"), "hidden_activation is 'gelu'"),
        (gemma2(use_bidirectional_attention=True), "use_bidirectional_attention is 'True'"),
        (gemma3(attn_logit_softcapping=50.0), "attn_logit_softcapping is '50.0'"),
        (gemma2(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
         "rope_type default for a Gemma 2"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)  # fmt: skip
def test_unsupported_gemma_setting_is_named(config, message):
    assert_refused(config.to_dict(), message)
