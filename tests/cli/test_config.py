"""`config`: presets and their settings."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from llm_scratch.cli.commands.config import commented_yaml, descriptions
from llm_scratch.config import RunConfig, TrainConfig, load_config, to_dict
from llm_scratch.presets import PRESETS, preset


def test_config_lists_every_preset_with_a_description(llm):
    out = llm("config").out
    assert all(name in out for name in PRESETS)
    assert "Children's stories" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", PRESETS)
def test_config_yaml_equals_the_preset_and_is_accepted_by_train(name, llm, tmp_path):
    out = llm("config", name).out
    assert yaml.safe_load(out) == to_dict(preset(name))
    (tmp_path / "mine.yaml").write_text(out, encoding="utf-8")
    assert load_config(tmp_path / "mine.yaml") == preset(name)
    assert yaml.safe_load(llm("train", "--config", "mine.yaml", "--print-config").out) == to_dict(
        preset(name)
    )


def settings(config, prefix=""):
    """The name of every setting, from the dataclasses."""
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        yield from settings(value, f"{name}.") if is_dataclass(value) else [name]


def test_every_setting_has_description_type_and_default():
    about = descriptions(RunConfig())
    assert list(about) == list(settings(RunConfig()))
    assert {"system.precision", "init_from"} <= set(about)
    assert about["train.lr"] == f"peak learning rate (float, {TrainConfig().lr})"
    assert about["system.compile"].endswith("(auto | yes | no, auto)")
    assert about["train.betas"].endswith("(float, float, [0.9, 0.95])")
    assert about["train.epochs"].endswith("(int or null, null)")
    assert about["model.init"].endswith("(torch | gpt2 | mimetic, torch)")
    assert about["model.qkv_bias"].endswith("(bool, false)")
    assert about["init_from"].endswith("(str, '')")


@pytest.mark.parametrize("name", PRESETS)
def test_every_line_of_the_config_yaml_has_a_description(name):
    bare = [
        line
        for line in commented_yaml(name).splitlines()
        if "#" not in line and not line.startswith("  - ")
    ]
    assert bare == ["model:", "data:", "train:", "system:"]


@pytest.mark.parametrize("words", [["train"], ["plan"], ["config"], ["import"]])
def test_help_names_every_preset(words, llm):
    out = " ".join(llm(*words, "--help").out.replace("│", " ").split())
    assert ", ".join(PRESETS) in out


@pytest.mark.parametrize(
    "words", [["train"], ["plan"], ["plan", "nothing"], ["train", "nothing"], ["config", "nothing"]]
)
def test_errors_about_a_preset_name_all_of_them(words, llm):
    result = llm(*words)
    assert result.code == 2
    assert [name for name in PRESETS if name not in result.err] == []


def test_steps_of_a_flag_or_a_file_replace_the_epochs_of_a_preset(llm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("train: {steps: 7}\n")
    Path("both.yaml").write_text("train: {steps: 7, epochs: 2}\n")

    def length(*words):
        train = yaml.safe_load(llm("train", "verdict", *words, "--print-config").out)["train"]
        return train["steps"], train["epochs"]

    assert length()[1] == 10
    assert length("--train.steps", "7") == (7, None)
    assert length("--config", "mine.yaml") == (7, None)
    assert length("--config", "both.yaml") == (7, 2)
    assert length("--train.steps", "7", "--train.epochs", "3") == (7, 3)
    assert preset("verdict").override(["train.steps=7"]).train.epochs is None
    assert preset("verdict").override(["train.lr=0.1"]).train.epochs == 10
