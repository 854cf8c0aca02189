"""`train text PATH` chooses, prints and saves settings; flags take precedence.

The same command resumes.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from llm_scratch.cli.own_text import run_name, source_of
from llm_scratch.cli.progress import ProgressDisplay
from llm_scratch.config import RunConfig, from_dict, load_config
from llm_scratch.errors import UserError
from llm_scratch.hardware.other_load import LoadMeter
from llm_scratch.planning.choice import Choice

WORDS = [
    "the",
    "hen",
    "sat",
    "on",
    "a",
    "red",
    "mat",
    "and",
    "then",
    "one",
    "old",
    "fox",
    "came",
    "by",
    "to",
    "ask",
    "her",
    "for",
    "rain",
]
FEW = [
    "--train.steps",
    "4",
    "--train.sample-every",
    "0",
    "--model.context-length",
    "16",
    "--train.eval-batches",
    "1",
]
SUBJECTS = ["text", "tokenizer", "rows", "model", "training"]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Skip pictures, timing and long texts, which take longer than such a run."""
    monkeypatch.setattr("llm_scratch.reports.plot.plot_runs", lambda runs, out: [])
    monkeypatch.setattr("llm_scratch.cli.own_text.CONTINUATION", 5)
    for name in ("TRIAL_SECONDS", "PLAN_SECONDS"):
        monkeypatch.setattr(f"llm_scratch.planning.choose_run.{name}", 0.02)


@pytest.fixture
def books(tmp_path):
    """A folder of three texts and a picture."""
    (tmp_path / "books").mkdir()
    for seed in range(3):
        text = " ".join(np.random.default_rng(seed).choice(WORDS, 900)) + ".\n"
        (tmp_path / "books" / f"{seed}.txt").write_text(text)
    return tmp_path / "books"


@pytest.fixture
def no_choosing(monkeypatch):
    """Call the returned function to make any later choice of settings fail."""

    def refuse(*args, **kwargs):
        raise AssertionError("settings are chosen again")

    return lambda: monkeypatch.setattr("llm_scratch.planning.choose_run.choose_run", refuse)


@pytest.fixture
def stopped_after_one_step(llm, monkeypatch):
    """Run a command and stop it with Ctrl-C after its first step."""

    def call(*words):
        step = ProgressDisplay.step

        def stop(self, run, row):
            step(self, run, row)
            os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(ProgressDisplay, "step", stop)
            result = llm(*words)
        assert result.code == 130, result.err
        return result

    return call


@pytest.mark.filterwarnings("default:.*are left out")
def test_train_text_prints_its_choice_and_continuations(llm, books, monkeypatch):
    monkeypatch.setattr(LoadMeter, "processors", lambda self: 99.0)
    (books / "cover.png").write_bytes(b"\x89PNG\0")
    result = llm("train", "text", "books", *FEW)
    assert result.code == 0, result.err
    assert "books: 1 of 4 files are not text and are left out: cover.png" in result.err
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-books", run.name)
    output = " ".join(result.out.split())
    positions = [output.index(f" {subject} ") for subject in SUBJECTS]
    assert positions == sorted(positions)
    assert "3 documents" in output
    assert "4 steps" in output
    assert "warning: other programs use 99.0 of " in output
    choice = Choice.load(run)
    assert choice is not None
    assert load_config(run / "config.yaml") == choice.config
    assert choice.config.model.context_length == 16
    texts = [path.read_text() for path in sorted(books.glob("*.txt"))]
    assert len(choice.prompts) == 3
    for prompt, text in zip(choice.prompts, texts):
        assert text.startswith(prompt)
        assert prompt in result.out.split("step 4/4")[1]
    assert result.out.rstrip().splitlines()[-1].startswith("  better")
    assert "llm-scratch generate runs/" in result.out


def test_train_text_resumes_with_its_settings(llm, books, stopped_after_one_step, no_choosing):
    words = ["train", "text", "books", *FEW]
    stopped_after_one_step(*words)
    (run,) = Path("runs").iterdir()
    before = (run / "config.yaml").read_bytes()
    no_choosing()
    result = llm(*words)
    assert result.code == 0, result.err
    assert "resuming at step 1 of 4" in result.out
    assert " ".join(result.out.split()).count(" tokenizer ") == 1, "the choice is shown again"
    assert list(Path("runs").iterdir()) == [run]
    assert (run / "config.yaml").read_bytes() == before
    assert (run / "ckpt" / "step-00000004").is_dir()


def test_train_text_keeps_a_finished_run_and_starts_another(llm, books):
    words = ["train", "text", "books", *FEW]
    assert llm(*words).code == llm(*words).code == 0
    assert len(list(Path("runs").iterdir())) == 2
    assert llm(*words, "--out", "x").code == 0
    assert "all 4 steps are done already" in llm(*words, "--out", "x").out


def test_train_text_may_change_system_settings_on_resume(
    llm, books, stopped_after_one_step, no_choosing
):
    words = ["train", "text", "books", *FEW, "--out", "x"]
    stopped_after_one_step(*words)
    no_choosing()
    assert llm(*words, "--system.async-save", "no").code == 0
    assert load_config(Path("x/config.yaml")).system.async_save == "no"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "7"], "minutes is 5.0 there, 7.0 here"),
        (["--model.n-layers", "1"], "model.n_layers is chosen there, 1 here"),
    ],
)
def test_train_text_rejects_a_run_with_other_settings(
    more, message, llm, books, stopped_after_one_step
):
    words = ["train", "text", "books", *FEW, "--out", "x"]
    stopped_after_one_step(*words)
    result = llm(*words, *more)
    assert (result.code, result.err.count("\n")) == (4, 1)
    assert f"x: this run has other settings ({message})" in result.err
    assert llm(*words, *more, "--fresh", "--force").code == 0


def test_train_text_rejects_a_changed_text(llm, books, stopped_after_one_step):
    words = ["train", "text", "books", *FEW]
    stopped_after_one_step(*words)
    (books / "1.txt").write_text("the hen sat on the mat")
    result = llm(*words)
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert (
        "the text has changed since this run began; restore it, or start a new run with --fresh"
        in result.err
    )
    assert llm(*words, "--fresh").code == 0


def test_train_text_does_not_overwrite_a_run_of_a_preset(llm, books, trained):
    result = llm("train", "text", "books", *FEW, "--out", trained)
    assert result.code == 4
    assert "has a run with other settings" in result.err


def test_train_text_print_config_has_settings_and_reasons(llm, books):
    result = llm("train", "text", "books", *FEW, "--print-config")
    assert result.code == 0, result.err
    comments = [line.partition(":")[0] for line in result.out.splitlines() if line.startswith("#")]
    assert comments == [f"# {subject}" for subject in SUBJECTS]
    config = from_dict(RunConfig, yaml.safe_load(result.out))
    assert (config.train.steps, config.data.source) == (4, "file:books")
    assert not Path("runs").exists()
    Path("mine.yaml").write_text(result.out)
    assert llm("train", "--config", "mine.yaml", "--out", "x").code == 0
    assert load_config(Path("x/config.yaml")) == config


def test_settings_file_overrides_the_choice(llm, books):
    Path("mine.yaml").write_text(
        "model: {n_layers: 1, emb_dim: 24}\ntrain: {steps: 3, sample_every: 0}\n"
    )
    result = llm(
        "train", "text", "books", "--config", "mine.yaml", "--model.emb-dim", "40", "--out", "x"
    )
    assert result.code == 0, result.err
    config = load_config(Path("x/config.yaml"))
    assert (config.model.n_layers, config.model.emb_dim, config.train.steps) == (1, 40, 3)


def test_train_text_continues_from_a_model(llm, text_file, trained):
    result = llm("train", "text", text_file, "--from", trained, *FEW[:4], "--out", "x")
    assert result.code == 0, result.err
    config = load_config(Path("x/config.yaml"))
    assert (config.model.emb_dim, config.train.optimizer) == (16, "adamw")
    assert config.init_from == str(trained)
    assert llm("train", "text", text_file, "--from", trained, *FEW[:4], "--out", "x").code == 0


def test_train_text_rejects_several_processes(llm, books, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    result = llm("train", "text", "books")
    assert (result.code, "--print-config > mine.yaml" in result.err) == (2, True)


def test_paths_become_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", "stories"):
        Path(name).write_text("x")
    Path("shards").mkdir()
    Path("shards/index.json").write_text("{}")
    assert source_of(["a.txt"]) == "file:a.txt"
    assert source_of(["*.txt"]) == "file:*.txt"
    assert source_of(["a.txt", "b.txt"]) == 'file:["a.txt", "b.txt"]'
    assert source_of(["shards"]) == "shards:shards"
    assert source_of(["verdict"]) == "verdict"
    assert source_of(["stories:20"]) == "stories:20"
    assert source_of(["stories"]) == "file:stories", "a file of this name"
    for paths in (["c.txt"], ["a.txt", "c.txt"], ["*.md"], ["a.txt", "verdict"]):
        with pytest.raises(UserError, match="no such file or folder|no file matches"):
            source_of(paths)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("file:books/", "books"),
        ("file:my poems/*.txt", "my-poems"),
        ("file:/x/war-and-peace.txt", "war-and-peace"),
        ('file:["a.txt", "b.txt"]', "text"),
        ("file:中文.txt", "中文"),
        ("file:volume-2.txt", "volume_2"),
        ("shards:web", "web"),
        ("verdict", "verdict"),
        ("file:*.txt", "text"),
        ("file:..", "text"),
    ],
)
def test_runs_are_named_after_their_text(source, name):
    assert run_name(source) == name
