"""Parsing of command lines: presets, files, flags, hyphens, and values that look like flags."""

from __future__ import annotations

import importlib
from dataclasses import fields

import pytest

from llm_scratch.cli import COMMANDS, flags
from llm_scratch.cli.commands.evaluate import Evaluate
from llm_scratch.cli.commands.generate import Generate
from llm_scratch.cli.commands.train import Train
from llm_scratch.cli.flags import flag_arity, import_user_file, parse, path_fields, split_args
from llm_scratch.config import DataConfig, GPTConfig, ModelConfig, TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.presets import PRESETS, preset


def train(*words: str) -> Train:
    return parse(Train, words, "llm-scratch train")


def test_preset_without_flags_is_unchanged():
    got, want = train("quickstart"), preset("quickstart")
    assert (got.preset, got.model, got.data, got.train) == (
        "quickstart",
        want.model,
        want.data,
        want.train,
    )


def test_flags_override_the_file_and_the_file_the_preset(tmp_path):
    file = tmp_path / "my settings.yaml"
    file.write_text("train: {lr: 0.5, seed: 7}\nmodel: {n_layers: 2}\n", encoding="utf-8")
    got = train("quickstart", "--config", str(file), "--train.lr", "0.25")
    base = preset("quickstart")
    assert (got.train.lr, got.train.seed, got.model.n_layers) == (0.25, 7, 2)
    assert (got.train.steps, got.model.emb_dim) == (base.train.steps, base.model.emb_dim)


def test_settings_file_works_without_a_preset(tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {steps: 3}", encoding="utf-8")
    got = train("--config", str(tmp_path / "mine.yaml"))
    assert (got.train, got.model) == (TrainConfig(steps=3), GPTConfig())


def test_flags_accept_hyphens_underscores_and_equal_signs():
    for words in (
        ["--train.eval-every", "7"],
        ["--train.eval_every", "7"],
        ["--train.eval-every=7"],
        ["--train.eval_every=7"],
    ):
        assert train("verdict", *words).train.eval_every == 7


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (["--train.epochs", "None"], "train.epochs", None),
        (["--train.epochs", "3"], "train.epochs", 3),
        (["--train.grad-clip", "None"], "train.grad_clip", None),
        (["--train.betas", "0.8", "0.99"], "train.betas", (0.8, 0.99)),
        (["--model.tie-embeddings"], "model.tie_embeddings", True),
        (["--model.no-tie-embeddings"], "model.tie_embeddings", False),
        (["--train.lr", "1e-3"], "train.lr", 1e-3),
        (["--train.prompt", "-"], "train.prompt", "-"),
    ],
)
def test_flags_parse_every_type_of_value(words, place, value):
    section, name = place.split(".")
    assert getattr(getattr(train("quickstart", *words), section), name) == value


def test_preset_is_found_at_any_position():
    assert train("--model.n-layers", "3", "--fresh", "quickstart").preset == "quickstart"
    assert (
        train("--train.betas", "0.9", "0.95", "--model.qkv-bias", "verdict").model.context_length
        == 256
    )


def test_every_setting_has_a_flag():
    flags = flag_arity(Train)
    for section, cls in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig)):
        for name in cls.__dataclass_fields__:
            assert f"--{section}.{name.replace('_', '-')}" in flags
    assert "--run" not in flag_arity(Evaluate)
    assert flags["--train.betas"] == 2
    assert "--no-fresh" not in flags


def test_split_args_separates_words_from_values():
    words, given = split_args(
        Generate, ["runs/x", "--seed", "3", "a prompt", "--max-tokens=5", "-"]
    )
    assert (words, given) == (["runs/x", "a prompt", "-"], {"--seed": "3", "--max-tokens": "5"})


@pytest.mark.parametrize("name", PRESETS)
def test_help_shows_the_values_of_the_preset(name, capsys):
    with pytest.raises(SystemExit):
        train(name, "--help")
    assert f"(default: {preset(name).train.lr})" in " ".join(capsys.readouterr().out.split())


def test_import_user_file_runs_the_file(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from llm_scratch.presets import PRESETS, quickstart\nPRESETS['mine'] = lambda:"
        " quickstart().with_model(n_layers=7)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setitem(PRESETS, "mine", PRESETS["quickstart"])
    assert train("mine", "--import", str(file)).model.n_layers == 7
    with pytest.raises(UserError, match="no such Python file"):
        import_user_file(str(tmp_path / "none.py"))


def test_words_after_two_dashes_are_text(llm, trained):
    words, given = split_args(
        Generate, ["runs/x", "--max-tokens", "3", "--", "--wow", "--help", "-x"]
    )
    assert (words, given) == (["runs/x", "--wow", "--help", "-x"], {"--max-tokens": "3"})
    assert parse(Generate, ["runs/x", "--", "--wow", "-x"], "llm-scratch generate").prompts == (
        "--wow",
        "-x",
    )
    (trained.parent / "prompt.txt").write_text("the")
    for verb, more in (
        ("generate", ["--max-tokens", "2"]),
        ("tokenizer show", []),
        ("compare-decoding", ["--max-tokens", "2"]),
    ):
        result = llm(
            *verb.split(),
            *([trained] if verb != "tokenizer show" else ["gpt2"]),
            *more,
            "--",
            "--debug",
        )
        assert "unknown option" not in result.err
        assert "Traceback" not in result.err


def test_quoted_home_folders_are_expanded_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    got = parse(
        Generate,
        ["~/run", "~ is a tilde", "--file", "~/p.txt", "--json-schema=~/s.json"],
        "llm-scratch generate",
    )
    assert (got.run_, got.file, got.json_schema) == tuple(
        str(tmp_path / name) for name in ("run", "p.txt", "s.json")
    )
    assert got.prompts == ("~ is a tilde",)
    (tmp_path / "mine.yaml").write_text("train: {steps: 3}", encoding="utf-8")
    got = train("quickstart", "--config", "~/mine.yaml", "--out", "~/x")
    assert (got.train.steps, got.out) == (3, str(tmp_path / "x"))


NO_PATHS = {"config", "data list", "data download", "doctor", "explain", "learn template"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_path_fields_has_the_path_arguments_of_every_command(verb):
    module, _, name = COMMANDS[verb][0].rpartition(".")
    cls = getattr(importlib.import_module(f"llm_scratch.cli.{module}"), name)
    others = {"debug", "import"}
    assert bool(set(path_fields(cls)) - others) == (verb not in NO_PATHS)
    likely = {
        "out",
        "folder",
        "file",
        "config",
        "run",
        "runs",
        "text_file",
        "draft",
        "resume",
        "from",
    } & {f.name.rstrip("_") for f in fields(cls)}
    assert likely <= set(path_fields(cls))


def test_parse_error_is_one_line_without_tyros_colors():
    box = (
        "╭─ Parsing error ──────────╮\n│ invalid choice 'int9' for  │\n│ argument '--dtype'."
        "        │\n╰──────────────────────────╯\n"
    )
    colored = "\n".join(f"\x1b[31m{line}\x1b[0m" for line in box.splitlines())
    assert (
        flags._on_one_line(box)
        == flags._on_one_line(colored)
        == "invalid choice 'int9' for argument '--dtype'."
    )


@pytest.mark.parametrize(
    "words",
    [
        ["train", "mine"],
        ["train", "quickstart", "--model.architecture", "mine"],
        ["train", "quickstart", "--train.optimizer", "mine"],
        ["train", "quickstart", "--train.schedule", "mine"],
        ["train", "quickstart", "--data.tokenizer", "mine"],
        ["train", "quickstart", "--data.source", "mine"],
        ["plan", "mine"],
        ["data", "prepare", "stories:5", "--tokenizer", "mine", "--out", "shards"],
        ["tokenizer", "show", "mine", "text"],
        ["data", "show", "mine"],
    ],
    ids=lambda words: " ".join(words),
)
def test_unknown_extension_error_suggests_import(llm, words):
    result = llm(*words)
    assert (result.code in (2, 4), result.err.count("\n")) == (True, 1), result.err
    assert "--import FILE" in result.err


def test_unknown_choice_error_does_not_suggest_import(llm):
    result = llm("train", "quickstart", "--model.init", "mine")
    assert result.code == 2
    assert "--import" not in result.err
