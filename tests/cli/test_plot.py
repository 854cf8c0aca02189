"""`plot`: figures of runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from llm_scratch.config import dump_config, load_config
from llm_scratch.data.stories import floor_bits_per_byte
from llm_scratch.reports import panels, plot


def test_plot_of_one_run_writes_into_the_run(llm, trained):
    (trained / "loss-plot.png").unlink()
    drawn = (trained / "loss-plot.pdf").read_bytes()
    result = llm("plot", trained)
    assert result.out == f"{trained}/loss-plot.png\n{trained}/loss-plot.svg\n"
    assert "<svg" in (trained / "loss-plot.svg").read_text()
    assert (trained / "loss-plot.pdf").read_bytes() == drawn, (
        "training writes it, and plot does not change it"
    )
    assert (trained / "loss-plot.png").read_bytes().startswith(b"\x89PNG")


def test_plot_draws_several_runs_in_one_figure(llm, trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "b" / "tiny run")  # the same name in another folder
    assert (
        llm("plot", trained, other, "--x", "tokens").out == "loss-compare.png\nloss-compare.svg\n"
    )
    assert llm("plot", trained, other, "--out", "all.svg").out == "all.svg\n"
    assert str(other) in (tmp_path / "all.svg").read_text()


def test_plot_draws_panels_and_time(llm, trained, tmp_path):
    result = llm("plot", trained, "--panels")
    assert result.out.split("\n")[:2] == [f"{trained}/panels.png", f"{trained}/panels.svg"]
    assert (trained / "panels.png").read_bytes().startswith(b"\x89PNG")
    assert llm("plot", trained, "--x", "time", "--out", "time.svg").code == 0
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    old = "".join(
        json.dumps({k: v for k, v in row.items() if k != "elapsed"}) + "\n" for row in rows
    )
    (trained / "metrics.jsonl").write_text(old)
    result = llm("plot", trained, "--x", "time")
    assert (result.code, "tiny run has no recorded times; use --x tokens" in result.err) == (
        3,
        True,
    )


@pytest.mark.parametrize("words", [(), ("--panels",), ("--x", "tokens")])
def test_plot_shows_the_floor_of_stories(llm, trained, tmp_path, monkeypatch, words):
    """Turn the run into one on stories by its settings, since its own text has no floor."""
    seen = []
    for name, module in (("loss_figure", plot), ("panel_figure", panels)):
        draw = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda *args, draw=draw, **more: seen.append(more["floors"]) or draw(*args, **more),
        )
    stories = shutil.copytree(trained, tmp_path / "stories")
    config = load_config(stories / "config.yaml")
    (stories / "config.yaml").write_text(
        dump_config(replace(config, data=replace(config.data, source="stories:50")))
    )
    assert llm("plot", trained, stories, *words).code == 0
    row = json.loads((trained / "metrics.jsonl").read_text().splitlines()[0])
    nats = {
        "stories": pytest.approx(floor_bits_per_byte() * row["val_loss"] / row["val_bits_per_byte"])
    }
    assert seen[0] == (
        {"loss": nats, "val_bits_per_byte": {"stories": floor_bits_per_byte()}}
        if words == ("--panels",)
        else nats
    )
    assert llm("plot", trained).code == 0
    assert seen[1] == {}


@pytest.mark.parametrize("backend", ["Qt4Agg", "module://nowhere"])
def test_plot_ignores_the_backend_variable_of_matplotlib(backend, trained):
    """Run a new process, since matplotlib reads the variable when it is imported."""
    words = [
        sys.executable,
        "-m",
        "llm_scratch",
        "plot",
        str(trained),
        "--out",
        str(trained / "p.svg"),
    ]
    done = subprocess.run(
        words, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (trained / "p.svg").is_file()
