"""Presets and their settings by command."""

from __future__ import annotations

import pytest
import yaml

from llm_scratch.cli.config import commented, descriptions
from llm_scratch.config import DataConfig, ModelConfig, TrainConfig, load_config, to_dict
from llm_scratch.presets import PRESETS, preset


def test_the_list_has_every_preset_and_what_it_is(llm):
    out = llm("config").out
    assert all(name in out for name in PRESETS)
    assert "Children's stories" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", PRESETS)
def test_the_yaml_is_the_preset_and_can_be_given_to_train(name, llm, tmp_path):
    out = llm("config", name).out
    assert yaml.safe_load(out) == to_dict(preset(name))
    (tmp_path / "mine.yaml").write_text(out, encoding="utf-8")
    assert load_config(tmp_path / "mine.yaml") == preset(name)
    assert yaml.safe_load(llm("train", "--config", "mine.yaml", "--print-config").out) == to_dict(preset(name))


def test_every_setting_has_its_word():
    about = descriptions()
    fields = {
        f"{section}.{name}"
        for section, cls in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig))
        for name in cls.__dataclass_fields__
    }
    assert set(about) == fields
    assert about["train.lr"] == "highest learning rate"
    text = commented("quickstart")
    assert all(f"# {word}" in text for word in about.values())
