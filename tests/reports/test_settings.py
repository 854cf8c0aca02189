"""Settings compared with a preset, and a command that reproduces them exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_scratch.cli.commands.train import Train
from llm_scratch.cli.flags import parse
from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.presets import PRESETS, preset
from llm_scratch.reports.settings import changes, flatten, nearest_preset, train_words

QUICK = preset("quickstart")
CHANGED = {
    "as the preset": QUICK,
    "numbers": replace(
        QUICK.with_model(n_layers=3),
        train=replace(QUICK.train, lr=1e-5, steps=7, betas=(0.5, 0.75)),
    ),
    "switches": replace(
        QUICK.with_model(tie_embeddings=False, qkv_bias=True),
        system=replace(QUICK.system, tensorboard=True),
    ),
    "nothing": replace(QUICK, train=replace(QUICK.train, grad_clip=None, eval_batches=None)),
    "words": replace(QUICK, train=replace(QUICK.train, prompt="--a 'b' \"c\" $d")),
    "no prompt": replace(QUICK, train=replace(QUICK.train, prompt="")),
    "a large seed": replace(QUICK, train=replace(QUICK.train, seed=2**63)),
    "with a space": replace(QUICK, data=replace(QUICK.data, source="file:my books/*.txt")),
    "a vocabulary that the tokenizer would change": replace(
        QUICK, data=replace(QUICK.data, tokenizer="gpt2")
    ),
    "another": preset("verdict"),
    "another architecture": QUICK.with_model(architecture="nanochat", emb_dim=96),
}


@pytest.mark.parametrize("config", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("base", ["quickstart", "verdict", "shakespeare-modern"])
def test_reproduction_command_gives_the_same_settings(config, base):
    words = train_words(config, base, "runs/again")
    assert words[:2] == ["train", base]
    parsed = parse(Train, words[1:], "train")
    assert RunConfig(parsed.model, parsed.data, parsed.train, parsed.system, parsed.from_) == config
    assert parsed.out == "runs/again"


def test_reproduction_of_a_preset_needs_no_flags():
    assert train_words(QUICK, "quickstart", "x") == ["train", "quickstart", "--out", "x"]


def test_reproduction_of_a_run_from_a_model_takes_its_shape_and_tokenizer():
    config = replace(
        QUICK.with_model(emb_dim=768, drop_rate=0.1),
        data=replace(QUICK.data, tokenizer="gpt2"),
        init_from="gpt2",
    )
    words = train_words(config, "quickstart", "x")
    assert words[2:4] == ["--from", "gpt2"]
    assert "--data.tokenizer" not in words
    assert "--model.emb-dim" not in words
    assert words[words.index("--model.drop-rate") + 1] == "0.1"


def test_changes_are_named_with_both_values():
    config = replace(QUICK, train=replace(QUICK.train, steps=7))
    assert [(c.name, c.value, c.preset_value) for c in changes(config, QUICK)] == [
        ("train.steps", 7, 1100)
    ]
    assert changes(QUICK, QUICK) == []
    assert flatten(config)["train.steps"] == 7


@pytest.mark.parametrize("name", PRESETS)
def test_nearest_preset_has_the_fewest_changes(name):
    config = preset(name)
    assert nearest_preset(replace(config, train=replace(config.train, seed=9))) == name
    assert nearest_preset(RunConfig(data=DataConfig(source="x")), "verdict") == "verdict", (
        "the name of the folder determines the preset"
    )
