"""Settings survive dict, JSON and YAML.

Every mistake is one line that names the key and what to do.
"""

import dataclasses
import json
from dataclasses import replace

import pytest

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.config import (
    OBSERVATION_SETTINGS,
    DataConfig,
    GPTConfig,
    ModelConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
    config_hash,
    dump_config,
    from_dict,
    load_config,
    to_dict,
)
from llm_scratch.errors import USAGE, UserError
from llm_scratch.presets import PRESETS, preset

NOTEBOOK = {
    "vocab_size": 50257,
    "context_length": 256,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}


def test_config_lists_the_notebooks_keys_first():
    assert list(GPTConfig())[1:8] == list(NOTEBOOK)
    assert GPTConfig(*NOTEBOOK.values()) == ModelConfig.of(NOTEBOOK)


def test_config_of_accepts_the_notebooks_dict_or_a_config():
    cfg = ModelConfig.of(NOTEBOOK)
    assert dict(cfg) == dict(GPTConfig()) | NOTEBOOK
    assert ModelConfig.of(cfg) is cfg


def test_config_reads_as_a_mapping_and_as_attributes():
    cfg = GPTConfig(emb_dim=24, n_heads=3)
    assert cfg["emb_dim"] == cfg.emb_dim == 24
    assert cfg.get("n_kv") is None
    assert len(cfg) == len(list(cfg)) == len(dataclasses.fields(cfg))
    with pytest.raises(KeyError):
        cfg["n_params"]


@pytest.mark.parametrize("name", PRESETS)
def test_config_survives_json_and_yaml(name, tmp_path):
    config = preset(name)
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config
    (tmp_path / "run.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "run.yaml") == config
    assert load_config(tmp_path / "run.yaml", base=preset("quickstart")) == config


def test_config_file_changes_its_keys_and_keeps_the_rest(tmp_path):
    base = preset("quickstart")
    (tmp_path / "mine.yaml").write_text(
        "train:\n  lr: 1e-3\n  steps: 7\nmodel: {n_layers: 2}\n", encoding="utf-8"
    )
    config = load_config(tmp_path / "mine.yaml", base)
    want = dataclasses.replace(base, train=dataclasses.replace(base.train, lr=0.001, steps=7))
    assert config == want.with_model(n_layers=2)


def test_empty_config_file_equals_the_base(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_config(tmp_path / "empty.yaml", preset("verdict")) == preset("verdict")


def test_config_numbers_may_be_written_in_any_notation():
    assert from_dict(
        TrainConfig, {"lr": 1, "grad_clip": None, "betas": [0.9, 1 / 2]}
    ) == TrainConfig(lr=1.0, grad_clip=None, betas=(0.9, 0.5))
    assert from_dict(TrainConfig, {"lr": "6e-4"}).lr == 6e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"lrr": 1}}, "unknown setting 'train.lrr'; did you mean 'train.lr'?"),
        ({"trian": {}}, "unknown setting 'trian'; did you mean 'train'?"),
        ({"model": {"emb_dim": "wide"}}, "setting 'model.emb_dim' is 'wide'; expected int"),
        ({"model": {"n_layers": 2.5}}, "setting 'model.n_layers' is 2.5; expected int"),
        ({"model": {"n_layers": True}}, "setting 'model.n_layers' is True; expected int"),
        ({"model": {"qkv_bias": 1}}, "setting 'model.qkv_bias' is 1; expected bool"),
        ({"model": {"init": "gpt3"}}, "unknown value of model.init 'gpt3'; did you mean 'gpt2'?"),
        ({"data": {"source": 3}}, "setting 'data.source' is 3; expected str"),
        ({"train": {"lr": "fast"}}, "setting 'train.lr' is 'fast'; expected float"),
        ({"train": {"epochs": "ten"}}, "setting 'train.epochs' is 'ten'; expected int or nothing"),
        ({"train": {"betas": [0.9]}}, "setting 'train.betas' is [0.9]; expected float and float"),
        ({"train": {"betas": ["a", 1]}}, "setting 'train.betas' is 'a'; expected float"),
        ({"train": 3}, "setting 'train' is 3; expected keys like batch_size, betas, decay, epochs"),
    ],
)
def test_invalid_setting_is_named(values, message):
    with pytest.raises(UserError) as error:
        from_dict(RunConfig, values)
    assert str(error.value) == message
    assert error.value.code == USAGE


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (
            GPTConfig,
            {"emb_dim": 770},
            "emb_dim=770 is not a multiple of n_heads=12; try emb_dim=768",
        ),
        (GPTConfig, {"emb_dim": 5}, "emb_dim=5 is not a multiple of n_heads=12; try emb_dim=12"),
        (GPTConfig, {"n_heads": 0}, "n_heads: 0 is out of range"),
        (GPTConfig, {"drop_rate": 1.0}, "drop_rate: 1.0 is out of range"),
        (DataConfig, {"val_fraction": 1.0}, "val_fraction: 1.0 is out of range"),
        (TrainConfig, {"steps": 0}, "steps: 0 is out of range"),
        (TrainConfig, {"epochs": 0}, "epochs: 0 is out of range"),
        (TrainConfig, {"lr": 0.0}, "lr: 0.0 is out of range"),
        (TrainConfig, {"lr": float("nan")}, "lr: nan is out of range"),
        (TrainConfig, {"min_lr": -1.0}, "min_lr: -1.0 is out of range"),
        (TrainConfig, {"warmup_steps": -1}, "warmup_steps: -1 is out of range"),
        (TrainConfig, {"weight_decay": -0.1}, "weight_decay: -0.1 is out of range"),
        (TrainConfig, {"grad_clip": 0.0}, "grad_clip: 0.0 is out of range"),
        (TrainConfig, {"eval_batches": 0}, "eval_batches: 0 is out of range"),
        (TrainConfig, {"betas": (0.9, 1.0)}, "betas: 1.0 is out of range"),
        (
            TrainConfig,
            {"batch_size": 10, "micro_batches": 4},
            "batch_size=10 is not a multiple of micro_batches=4",
        ),
    ],
)
def test_config_rejects_impossible_values(cls, values, message):
    with pytest.raises(UserError, match=message):
        cls(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"train: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- 1\n- 2\n", "is not a YAML mapping"),
        (b"train: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        (b"just words", "is not a YAML mapping"),
    ],
)
def test_config_file_with_other_content_is_refused(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_bytes(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(tmp_path / "bad.yaml")
    assert "\n" not in str(error.value)


def test_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_config_hash_changes_with_every_setting_and_nothing_else(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "another", ARCHITECTURES["gpt"])
    base = preset("quickstart")
    hashes = {config_hash(base)}
    changed = 0
    for part in ("model", "data", "train"):
        for name, value in to_dict(base)[part].items():
            if name in OBSERVATION_SETTINGS:
                continue
            settings = to_dict(base)
            kinds = {
                bool: lambda v: not v,
                int: lambda v: 2 * v or 1,
                float: lambda v: v / 2 or 0.5,
                str: "x{}".format,
            }
            others = {
                "init": "torch",
                "activation": "relu",
                "split": "characters",
                "order": "notebook",
                "betas": [0.1, 0.2],
                "decay": "all",
                "architecture": "another",
            }
            settings[part][name] = others.get(name) or kinds.get(type(value), lambda v: 3)(value)
            hashes.add(config_hash(from_dict(RunConfig, settings)))
            changed += 1
    assert len(hashes) == changed + 1
    assert config_hash(base) == config_hash(preset("quickstart"))
    assert config_hash(base) == config_hash(replace(base, system=SystemConfig(compile="no"))), (
        "system settings do not identify the run"
    )
    seldom = replace(
        base.train,
        eval_every=7,
        eval_batches=None,
        save_every=7,
        sample_every=0,
        log_every=7,
        prompt="x",
    )
    assert config_hash(base) == config_hash(replace(base, train=seldom)), (
        "settings of observation do not identify the run"
    )
    assert len(config_hash(base)) == 16


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("verdict").train.lr = 1.0


def test_override_reads_values_by_the_type_of_their_setting():
    base = preset("quickstart")
    settings = [
        "train.lr=3e-4",
        "model.n_layers = 4",
        "train.betas=[0.5, 0.75]",
        "train.grad_clip=null",
        "model.tie_embeddings=false",
        "data.source=file:a: b.txt",
        "train.prompt=yes",
        "train.optimizer=adamw",
        "init_from=gpt2",
    ]
    changed = base.override(settings)
    train = replace(
        base.train, lr=3e-4, betas=(0.5, 0.75), grad_clip=None, prompt="yes", optimizer="adamw"
    )
    data = replace(base.data, source="file:a: b.txt")
    expected = replace(
        base.with_model(n_layers=4, tie_embeddings=False), train=train, data=data, init_from="gpt2"
    )
    assert changed == expected
    assert base == preset("quickstart"), "the base is not changed"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr", "setting 'train.lr': has no value; give NAME=VALUE"),
        ("train.lrr=1", "unknown setting 'train.lrr'; did you mean 'train.lr'"),
        ("trian.lr=1", "unknown setting 'trian'; did you mean 'train'"),
        ("train=1", "setting 'train' is 1"),
        ("train.steps=ten", "setting 'train.steps' is 'ten'; expected int"),
        ("train.lr=nan", "train.lr: nan is out of range"),
        ("train.betas=[1", "train.betas: '[1' is not a YAML value"),
        ("train.betas=" + "[" * 5000, "train.betas: .* nested brackets"),
    ],
)
def test_override_error_names_the_problem(setting, message):
    with pytest.raises(UserError) as error:
        preset("quickstart").override([setting])
    assert error.value.code == USAGE
    if "brackets" in message:
        assert "nested brackets" in str(error.value)
    else:
        assert message in str(error.value)
