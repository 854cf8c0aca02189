"""Run directories: finding, naming, and the folder of a new run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from llm_scratch.cli.folders import (
    check_can_write,
    choose_output_dir,
    find_runs,
    resolve_model_path,
)
from llm_scratch.config import RunConfig, dump_config
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.presets import preset
from llm_scratch.run_directory import find_run

from .conftest import files

QUICK = preset("quickstart")


def make(path: Path, config: RunConfig = QUICK, step: int = 0, changed: int = 1000) -> Path:
    """A run directory with only the small files that are read."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("# settings\n" + dump_config(config))
    if step:
        folder = path / "ckpt" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        state = {
            "step": step,
            "steps": 800,
            "best": 1.5,
            "last_eval": {"val_loss": 2.0, "val_bits_per_byte": 0.7},
        }
        (folder / "state.json").write_text(json.dumps(state))
        (path / "ckpt" / "latest").write_text(folder.name + "\n")
    os.utime(path / "config.yaml", (changed, changed))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_find_run_reads_settings_and_counters():
    run = find_run(make(Path("runs/2026-07-01-quickstart-2"), step=400))
    assert run is not None
    assert (run.step, run.steps, run.scores["val_loss"], run.finished) == (400, 800, 2.0, False)
    assert run.config == QUICK
    assert run.preset == "quickstart"
    assert find_run(make(Path("runs/bard"))).preset == "bard"  # type: ignore[union-attr]


def test_find_run_is_none_without_valid_settings():
    Path("other").mkdir()
    assert find_run(Path("other")) is None
    Path("other/config.yaml").write_text("train: [")
    assert find_run(Path("other")) is None
    assert find_runs(Path("none")) == []


def test_find_run_ignores_damaged_counters():
    make(Path("runs/a"), step=5)
    Path("runs/a/ckpt/step-00000005/state.json").write_text("{")
    run = find_run(Path("runs/a"))
    assert run is not None
    assert (run.step, run.finished) == (0, False)


def test_resolve_model_path_accepts_a_path_a_name_and_a_preset():
    make(Path("runs/2026-07-01-quickstart"), changed=1000)
    newest = make(Path("runs/2026-06-01-quickstart"), changed=2000)
    assert [run.path.name for run in find_runs()] == [
        "2026-07-01-quickstart",
        "2026-06-01-quickstart",
    ]
    assert resolve_model_path("quickstart") == newest
    assert resolve_model_path("2026-07-01-quickstart") == Path("runs/2026-07-01-quickstart")
    assert resolve_model_path("somewhere/else") == Path("somewhere/else")
    with pytest.raises(UserError, match="no run 'verdict'") as found:
        resolve_model_path("verdict")
    assert found.value.code == 4
    for typed, meant in (("quikstart", "quickstart"), ("gtp2", "gpt2")):
        with pytest.raises(UserError, match=f"; did you mean '{meant}'\\?$"):
            resolve_model_path(typed)


def test_new_run_gets_a_folder_with_the_date():
    assert choose_output_dir(QUICK, "quickstart", "2026-07-02", False)[0] == Path(
        "runs/2026-07-02-quickstart"
    )
    make(Path("runs/2026-07-02-quickstart"), step=800)
    assert choose_output_dir(QUICK, "quickstart", "2026-07-02", False)[0] == Path(
        "runs/2026-07-02-quickstart-2"
    )


def test_unfinished_run_with_equal_settings_is_resumed():
    make(Path("runs/2026-07-01-quickstart"), step=400)
    folder, reason = choose_output_dir(QUICK, "quickstart", "2026-07-02", False)
    assert folder == Path("runs/2026-07-01-quickstart")
    assert "at step 400; --fresh" in reason
    other = replace(QUICK, train=replace(QUICK.train, seed=5))
    assert choose_output_dir(other, "quickstart", "2026-07-02", False)[0] == Path(
        "runs/2026-07-02-quickstart"
    )
    assert choose_output_dir(QUICK, "quickstart", "2026-07-02", True)[0] == Path(
        "runs/2026-07-02-quickstart"
    )
    assert choose_output_dir(QUICK, "another", "2026-07-02", False)[0] == Path(
        "runs/2026-07-02-another"
    )


@pytest.mark.parametrize("name", ["new", "a/new/one", "there.txt", "."])
def test_check_can_write_changes_nothing(name, tmp_path):
    (tmp_path / "there.txt").touch()
    check_can_write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.txt"]


def test_check_can_write_rejects_a_read_only_folder(tmp_path, monkeypatch):
    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(UserError) as error:
        check_can_write(tmp_path / "a" / "b", "FOLDER")
    assert (
        str(error.value)
        == f"{tmp_path}: not writable (Read-only file system); choose another FOLDER"
    )
    assert error.value.code == RESOURCES


@pytest.mark.parametrize(
    "words",
    [
        ["tokenizer", "train", "stories:20"],
        ["train", "quickstart"],
        ["quantize", "{run}"],
        ["compare-decoding", "{run}", "the", "--out", "g.html"],
        ["plot", "{run}"],
        ["export", "hf", "{run}", "folder"],
        ["import", "{run}", "--out", "folder"],
        ["data", "prepare", "stories:20", "--out", "folder", "--tokenizer", "bpe"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_unwritable_output_is_reported_before_the_work(words, llm, trained, monkeypatch):
    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    before = files(trained)
    result = llm(*(word.format(run=trained) for word in words))
    assert (result.code, result.err.count("\n")) == (RESOURCES, 1), result.err
    assert "not writable (Read-only file system); choose another" in result.err
    assert files(trained) == before
