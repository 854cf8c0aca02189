"""Older formats: settings, counters and tensors get their present names; the rest is unchanged."""

from dataclasses import fields

import pytest

from llm_scratch.config import RunConfig, SystemConfig, TrainConfig, from_dict, load_config, to_dict
from llm_scratch.storage import older_formats
from llm_scratch.storage.older_formats import upgrade_settings, upgrade_state, upgrade_tensors
from llm_scratch.training.recovery import RecoveryState

OLD = {
    "model": {
        "emb_dim": 48,
        "architecture": "modern",
        "qkv_bias": False,
        "init": "torch",
        "bits": 32,
    },
    "data": {"source": "stories", "order": "epochs"},
    "train": {"steps": 7, "max_norm": None},
    "machine": {"recompute": True, "background_save": "no", "compile": "no"},
    "start": "gpt2",
}
NEW = {
    "model": {"emb_dim": 48, "architecture": "nanochat"},
    "data": {"source": "stories", "order": "notebook"},
    "train": {"steps": 7, "grad_clip": None},
    "system": {"activation_checkpointing": True, "async_save": "no", "compile": "no"},
    "init_from": "gpt2",
}


def test_older_settings_get_their_present_names():
    before = str(OLD)
    assert upgrade_settings(OLD) == NEW
    assert list(upgrade_settings(OLD)) == list(NEW)
    assert str(OLD) == before


def test_present_settings_are_unchanged():
    assert upgrade_settings(NEW) == NEW
    assert upgrade_settings(to_dict(RunConfig())) == to_dict(RunConfig())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"architecture": "gpt-erf"}, {"architecture": "gpt", "activation": "gelu"}),
        (
            {"architecture": "gpt-exact-gelu", "bits": 8},
            {"architecture": "gpt", "activation": "gelu"},
        ),
        (
            {"architecture": "gpt", "bits": 4, "qkv_bias": False, "init": "torch"},
            {"architecture": "gpt", "qkv_bias": False, "init": "torch"},
        ),
        ({"bits": 32, "emb_dim": 8}, {"emb_dim": 8}),
        (
            {"architecture": "mine", "bits": 32, "init": "gpt2"},
            {"architecture": "mine", "init": "gpt2"},
        ),
        (
            {"architecture": "nanochat", "init": "gpt2"},
            {"architecture": "nanochat", "init": "gpt2"},
        ),
    ],
)
def test_settings_of_a_model_become_those_of_its_architecture(old, new):
    assert upgrade_settings({"model": old}) == {"model": new}


@pytest.mark.parametrize(
    "settings", [None, [], "text", {"train": 3, "system": None}, {"data": {"order": 5}}]
)
def test_malformed_settings_are_left_to_the_parser(settings):
    assert upgrade_settings(settings) == settings


def test_config_file_of_an_older_run_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "machine: {recompute: true}\ntrain: {max_norm: 0.5}\nstart: gpt2\n"
    )
    config = load_config(tmp_path / "config.yaml")
    assert (config.system.activation_checkpointing, config.train.grad_clip, config.init_from) == (
        True,
        0.5,
        "gpt2",
    )


def test_renamed_settings_exist_in_the_present_config():
    from_dict(RunConfig, NEW)
    assert set(older_formats.SETTINGS["train"].values()) <= {
        field.name for field in fields(TrainConfig)
    }
    assert set(older_formats.SETTINGS["system"].values()) <= {
        field.name for field in fields(SystemConfig)
    }
    assert set(older_formats.RECOVERY.values()) <= {field.name for field in fields(RecoveryState)}


def test_older_counters_get_their_present_names():
    old = {
        "step": 3,
        "guard": {"losses": []},
        "trouble": {"streak": 1, "skipped": 2, "returns": 3, "shift": 4},
    }
    recovery = {"consecutive_bad": 1, "skipped": 2, "rollbacks": 3, "skipped_batches": 4}
    assert upgrade_state(old) == {"step": 3, "spike_detector": {"losses": []}, "recovery": recovery}
    assert upgrade_state({"step": 3}) == {"step": 3}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trf_blocks.0.widen.weight", "trf_blocks.0.up_proj.weight"),
        ("trf_blocks.0.narrow.weight/exp_avg", "trf_blocks.0.down_proj.weight/exp_avg"),
        ("out_head.numbers", "out_head.qweight"),
        ("trf_blocks.0.norm1.scale", "trf_blocks.0.norm1.scale"),
    ],
)
def test_older_tensors_get_their_present_names(old, new):
    assert upgrade_tensors({old: 1}) == {new: 1}
