"""`train --parts`, `learn parts` and `learn template`: a learner's parts in a real run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from llm_scratch.cli import main
from llm_scratch.cli.own_parts import COPY
from llm_scratch.cli.progress import ProgressDisplay
from llm_scratch.presets import PRESETS
from llm_scratch.run_directory import open_run
from llm_scratch.storage.user_code import RUN_FILES

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts_example.py"
NO_SHIFT = """
import torch
from torch import nn


class LayerNorm(nn.Module):
    def __init__(self, emb_dim):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        return self.scale * x / x.square().mean(-1, keepdim=True).add(1e-5).sqrt()
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("llm_scratch.own_parts.speed.ROUNDS", 1)


@pytest.fixture(scope="module")
def own_once(tiny, tmp_path_factory) -> Path:
    """A run with every part of the example, in the folder `runs`; do not change it."""
    runs = tmp_path_factory.mktemp("own") / "runs"
    words = ["--parts", str(EXAMPLE), "--out", str(runs / "own")]
    assert main([*tiny, *words]) == 0
    return runs / "own"


@pytest.fixture
def own(own_once, llm) -> Path:
    """A copy of the run in runs/own of the current folder."""
    return Path(shutil.copytree(own_once, Path("runs", "own")))


def losses(run):
    rows = open_run(run).metrics
    return [row["val_loss"] for row in rows if "val_loss" in row]


def test_equal_parts_train_the_same_model_as_the_package(own, trained_once, llm):
    assert losses(own) == pytest.approx(losses(trained_once), rel=1e-4)
    run = open_run(own)
    assert run.config.parts.startswith("own_parts_example.py ")
    assert run.config.different_parts == ""
    assert (own / COPY).read_text() == EXAMPLE.read_text()
    words = ["generate", own, "the", "--max-tokens", 4, "--temperature", 0]
    plain, with_parts = llm(*words), llm(*words, "--parts", EXAMPLE)
    assert plain.code == with_parts.code == 0, with_parts.err
    assert plain.out == with_parts.out


def test_resumed_run_with_the_same_parts_file_equals_uninterrupted(
    own_once, tiny, llm, monkeypatch
):
    words = [*tiny, "--parts", EXAMPLE, "--out", "run"]
    step = ProgressDisplay.step

    def stop_after_two(self, run, row):
        step(self, run, row)
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressDisplay, "step", stop_after_two)
    assert llm(*words).code == 130
    monkeypatch.setattr(ProgressDisplay, "step", step)
    assert "resuming at step 2 of 4" in llm(*words).out
    end = "ckpt/step-00000004/model.safetensors"
    assert Path("run", end).read_bytes() == (own_once / end).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resume runs/own", "the run trains with parts of own_parts_example.py; add --parts"),
        ("--config runs/own/config.yaml", "the run trains with parts of own_parts_example.py"),
        ("--out runs/own", "its parts are own_parts_example.py there, the package's here"),
        ("--out runs/own --parts own_parts_example.py", "own_parts_example.py has changed since"),
        ("--allow-different-parts", "has no effect without --parts FILE"),
    ],
)
def test_resume_without_the_parts_file_or_with_a_changed_one_is_an_error(
    own, tiny, llm, words, message
):
    Path("own_parts_example.py").write_text(EXAMPLE.read_text() + "\n# edited\n")
    before = (own / COPY).read_bytes()
    alone = words.startswith(("--resume", "--config"))
    result = llm(*(["train"] if alone else tiny), *words.split())
    assert result.code in (2, 4)
    assert message in result.err
    assert (own / COPY).read_bytes() == before


def test_differing_part_is_an_error_before_training(tiny, llm):
    Path("mine.py").write_text(NO_SHIFT)
    result = llm(*tiny, "--parts", "mine.py", "--out", "run")
    assert result.code == 2
    assert "LayerNorm not equal to the package's; fix it" in result.err
    assert "its weights are scale (12,)" in " ".join(result.out.split())
    assert not Path("run").exists()


def test_differing_part_trains_if_allowed_and_loads_only_with_its_file(tiny, llm):
    Path("mine.py").write_text(NO_SHIFT)
    words = ["--parts", "mine.py"]
    result = llm(*tiny, *words, "--allow-different-parts", "--out", "run")
    assert result.code == 0, result.err
    assert "llm-scratch generate run the --parts mine.py" in result.out
    assert open_run("run").config.different_parts == "LayerNorm"
    Path("run", COPY).write_text("raise SystemExit('a run directory is never executed')\n")
    generate = ["generate", "run", "the", "--max-tokens", 3]
    assert llm(*generate, *words).code == 0
    assert llm("evaluate", "run", *words).code == 0
    RUN_FILES.clear()  # as in another process
    result = llm(*generate)
    assert result.code == 4
    assert "trained with parts of mine.py that differ from the package's (LayerNorm)" in result.err


def test_curve_is_drawn_beside_that_of_the_package(own, trained_once, tiny, llm):
    alone = llm(*tiny, "--parts", EXAMPLE, "--out", own)
    advice = re.search(
        rf"train one: llm-scratch train (\S+) .*--out runs/package, then llm-scratch plot {own}",
        " ".join(alone.out.split()),
    )
    assert advice, alone.out
    assert advice[1] in PRESETS
    assert not (own / "loss-compare.png").exists()
    shutil.copytree(trained_once, "runs/package")
    beside = llm(*tiny, "--parts", EXAMPLE, "--out", own)
    assert f"curves: {own / 'loss-compare.png'}, beside {Path('runs', 'package')}" in beside.out
    drawn = (own / "loss-compare.svg").read_text()
    assert drawn.count("<svg") == 1


def test_parts_are_checked_without_training(llm):
    result = llm("learn", "parts", EXAMPLE)
    assert result.code == 0
    assert result.out.count("✓") == 12
    assert "train with them: llm-scratch train quickstart --parts" in result.out
    parts = json.loads(llm("learn", "parts", EXAMPLE, "--json").out)["parts"]
    assert {part["state"] for part in parts} == {"equal"}


def test_printed_settings_name_the_file(llm):
    result = llm("train", "quickstart", "--parts", EXAMPLE, "--print-config")
    assert yaml.safe_load(result.out)["parts"].startswith("own_parts_example.py ")
    assert "compared with the package's" in result.err


def test_template_is_a_file_to_begin_with(llm):
    source = llm("learn", "template", "LayerNorm", "top_k").out
    Path("mine.py").write_text(source)
    result = llm("learn", "parts", "mine.py")
    assert result.out.count("not written yet; the package's is used") == 2
    assert "train with them" not in result.out
    assert "unknown part 'x'" in llm("learn", "template", "x").err


def test_parts_fit_presets_of_the_lessons_only(llm, text_file):
    result = llm("train", "text", text_file, "--parts", EXAMPLE)
    assert "--parts: it has no effect on `train text`" in result.err
    result = llm("learn", "parts", EXAMPLE, "--preset", "shakespeare-modern")
    assert "needs the GPT of the lessons, and this run has nanochat" in result.err
