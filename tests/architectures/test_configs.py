"""Config classes: each architecture has its own fields and counts its parameters.

It is chosen by name everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from effort import PATIENCE_SECONDS
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_scratch.architectures import (
    ARCHITECTURES,
    Architecture,
    GPTConfig,
    ModelConfig,
    NanoChatConfig,
)
from llm_scratch.config import RunConfig, dump_config, from_dict, load_config, to_dict
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.presets import PRESETS, preset

SIZES = {
    "vocab_size": st.integers(1, 40),
    "context_length": st.integers(1, 40),
    "n_layers": st.integers(1, 3),
}
NAMES = sorted(ARCHITECTURES)


@st.composite
def configs(draw, name):
    """Random settings of an architecture, any of which may differ from its default."""
    cls = ARCHITECTURES[name].config
    heads = draw(st.integers(1, 4))
    values = {
        "n_heads": heads,
        "emb_dim": heads * 2 * draw(st.integers(1, 5)),
        **{key: draw(size) for key, size in SIZES.items()},
    }
    hints = get_type_hints(cls)
    fitting = {  # sizes that must fit others
        "n_kv_heads": [None, *(n for n in range(1, heads + 1) if heads % n == 0)],
        "head_dim": [None, 2, 6, 10],
        "rotated_dim": [None, 2],
        "n_key_heads": [None, 1, 2],
        "n_value_heads": [None, 12],
    }
    if name == "deepseek":  # its heads share a latent, and no keys
        fitting["n_kv_heads"] = [None]
    for field in fields(cls):
        hint = hints[field.name]
        if field.name in fitting:
            values[field.name] = draw(st.sampled_from(fitting[field.name]))
        elif hint is bool:
            values[field.name] = draw(st.booleans())
        elif get_origin(hint) is Literal:
            values[field.name] = draw(st.sampled_from(get_args(hint)))
        elif hint == int | None:
            values[field.name] = draw(st.none() | st.integers(1, 30))
    return cls(**values)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_n_params_equals_the_counted_parameters(name, data):
    cfg = data.draw(configs(name))
    with torch.device("meta"):
        model = build(cfg)
    assert cfg.n_params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_settings_of_an_architecture_round_trip_through_yaml(name, data, tmp_path_factory):
    config = RunConfig(data.draw(configs(name)))
    path = tmp_path_factory.mktemp("yaml") / "run.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert type(load_config(path).model) is ARCHITECTURES[name].config


def test_config_class_is_chosen_by_architecture():
    assert type(ModelConfig.of({"emb_dim": 24})) is GPTConfig
    assert type(ModelConfig.of({"emb_dim": 24, "architecture": "nanochat"})) is NanoChatConfig
    assert NanoChatConfig.of({"emb_dim": 24}).architecture == "nanochat"
    with pytest.raises(
        UserError,
        match="architecture 'nanochat': its settings are a NanoChatConfig; expected a GPTConfig",
    ):
        GPTConfig.of(NanoChatConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architecture": "nanochat", "qkv_bias": True},
            "model.qkv_bias: architecture 'nanochat' has no such setting",
        ),
        (
            {"architecture": "nanochat", "emb_dm": 3},
            "unknown setting 'model.emb_dm'; did you mean 'model.emb_dim'",
        ),
        ({"architecture": "nanocat"}, "unknown architecture 'nanocat'; did you mean 'nanochat'"),
        ({"architecture": 3}, "setting 'model.architecture' is 3; expected str"),
        ({"activation": "glu"}, "unknown value of model.activation 'glu'; did you mean 'gelu'"),
        ({"bits": 8}, "unknown setting 'model.bits'"),
        ({"ff_dim": 0}, "model.ff_dim: 0 is out of range"),
    ],
)
def test_unknown_or_foreign_setting_is_named(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(RunConfig, {"model": values})


def test_changing_the_architecture_keeps_shared_settings():
    config = RunConfig(
        GPTConfig(emb_dim=24, n_heads=3, tie_embeddings=True, init="gpt2", drop_rate=0.2)
    )
    changed = config.override(
        ["model.architecture=nanochat", "model.n_layers=3", "model.n_heads=2"]
    ).model
    assert changed == NanoChatConfig(
        emb_dim=24, n_heads=2, n_layers=3, tie_embeddings=True, drop_rate=0.2
    )
    assert config.with_model(architecture="nanochat", n_heads=2, n_layers=3).model == changed
    with pytest.raises(UserError, match="n_heads: a head size of 9 is odd"):
        RunConfig(GPTConfig(emb_dim=27, n_heads=3)).with_model(architecture="nanochat")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_change_to_every_architecture(name):
    base = preset(name)
    for architecture in ARCHITECTURES:
        changed = base.with_model(architecture=architecture).model
        assert (changed.architecture, changed.emb_dim) == (architecture, base.model.emb_dim)


def test_key_value_heads_of_a_preset_are_left_out_by_latent_attention_and_given_ones_rejected():
    base = preset("llama-tiny")
    assert base.override(["model.architecture=deepseek"]).model.n_kv_heads is None
    assert base.override(["model.architecture=qwen"]).model.n_kv_heads == 2
    with pytest.raises(UserError, match="n_kv_heads=2: latent attention has no shared heads"):
        base.override(["model.architecture=deepseek", "model.n_kv_heads=2"])
    given = preset("mla-tiny").with_model(n_kv_heads=4)
    assert given.with_model(n_layers=2).model.n_kv_heads == 4


def test_two_architectures_may_share_a_config_class(monkeypatch):
    monkeypatch.setitem(
        ARCHITECTURES, "mine", Architecture(GPTConfig, lambda cfg: torch.nn.Identity())
    )
    cfg = ModelConfig.of({"architecture": "mine", "qkv_bias": True})
    assert (type(cfg), cfg.architecture, cfg.qkv_bias) == (GPTConfig, "mine", True)
    assert from_dict(RunConfig, to_dict(RunConfig(cfg))).model == cfg


def test_config_class_without_n_params_raises_with_its_name():
    with pytest.raises(NotImplementedError, match="ModelConfig has no n_params; add the property"):
        _ = ModelConfig(architecture="gpt").n_params


def test_configs_of_all_architectures_need_no_torch():
    code = (
        "import sys, llm_scratch.config; assert 'torch' not in sys.modules;"
        " from llm_scratch.presets import *; "
    )
    code += "[make() for make in PRESETS.values()]; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
