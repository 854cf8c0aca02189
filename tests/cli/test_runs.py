"""`runs list` and `runs show`."""

from __future__ import annotations

import re
import shutil

import pytest

from llm_scratch.config import config_hash

from .test_folders import QUICK, make


def test_runs_list_has_a_line_for_each_run(llm, trained_once, tmp_path):
    shutil.copytree(trained_once, tmp_path / "runs" / "2026-07-01-shakespeare")
    make(tmp_path / "runs" / "2026-07-02-quickstart", step=400)
    make(tmp_path / "runs" / "never-began")
    (tmp_path / "runs" / "other").mkdir()
    out = llm("runs", "list").out
    lines = out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert re.search(
        r"^2026-07-01-shakespeare +4,160 +file:.*… +4 +3\.\d{3} +\d\.\d{3} +\d\d-\d\d \d\d:\d\d *$",
        out,
        re.M,
    )
    assert re.search(
        rf"2026-07-02-quickstart +{QUICK.model.n_params // 1000}k +sto\S+ +400/800 +2\.000 +0\.700",
        out,
    )
    assert re.search(r"never-began .* +0/[\d,]+ +- +- ", out)


def test_runs_list_without_runs_suggests_train(llm):
    result = llm("runs", "list")
    assert (result.code, result.out) == (
        0,
        "no runs in runs/ yet; make one: llm-scratch train quickstart\n",
    )


def test_runs_show_prints_settings_curve_and_sample(llm, trained):
    from llm_scratch.run_directory import find_run

    out = llm("runs", "show", trained).out
    run = find_run(trained)
    assert config_hash(run.config) in out.replace("\n", "")
    assert "gpt, 4,160 parameters: 1 layer of 16" in out
    assert f"{run.scores['val_loss']:.4f}" in out
    assert "last sample" in out
    assert re.search(r"^steps +4 saved *$", out, re.M)
    assert "llm-scratch generate '" in out
    assert [
        line.split()[0] for line in out.splitlines() if re.match(r" *\d+ +\d+ +\d\.", line)
    ] == ["0", "2", "4"]


def test_runs_show_of_a_run_without_a_checkpoint(llm, tmp_path):
    result = llm("runs", "show", make(tmp_path / "runs" / "x"))
    assert result.code == 0
    assert f"0/{QUICK.train.steps:,} saved; the same train command starts it" in " ".join(
        result.out.split()
    )
    assert "llm-scratch" not in result.out, "no command can use this run yet"


DECIMAL = re.compile(r"\d+\.\d+")


@pytest.mark.parametrize("words", ["runs list", "runs show bard", "data list"])
def test_runs_list_never_cuts_numbers_and_names(words, llm, trained, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    trained.rename(tmp_path / "runs" / "bard")
    make(tmp_path / "runs" / "2026-07-02-quickstart", step=400)
    monkeypatch.setenv("COLUMNS", "400")
    wide = llm(*words.split()).out.partition("╭")[0]
    for width in range(22, 120, 1):
        monkeypatch.setenv("COLUMNS", str(width))
        narrow = llm(*words.split()).out.partition("╭")[0]
        assert set(DECIMAL.findall(narrow)) == set(DECIMAL.findall(wide)), width
        for name in ("2026-07-02-quickstart", "bard", "400/800"):
            assert (name in narrow) == (name in wide), width
