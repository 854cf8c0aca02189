"""Pictures by command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from llm_scratch.cli.plot import story_floor


def test_one_run_gets_its_own_pictures(llm, trained):
    (trained / "loss-plot.png").unlink()
    drawn = (trained / "loss-plot.pdf").read_bytes()
    result = llm("plot", trained)
    assert result.out == f"{trained}/loss-plot.png\n{trained}/loss-plot.svg\n"
    assert "<svg" in (trained / "loss-plot.svg").read_text()
    assert (trained / "loss-plot.pdf").read_bytes() == drawn, "which training writes, and plot leaves alone"
    assert (trained / "loss-plot.png").read_bytes().startswith(b"\x89PNG")


def test_several_runs_in_one_picture(llm, trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "b" / "tiny run")  # the same name in another folder
    assert llm("plot", trained, other, "--x", "tokens").out == "loss-compare.png\nloss-compare.svg\n"
    assert llm("plot", trained, other, "--out", "all.svg").out == "all.svg\n"
    assert str(other) in (tmp_path / "all.svg").read_text() or "svg" in (tmp_path / "all.svg").read_text()[:200]


def test_panels_and_time(llm, trained, tmp_path):
    result = llm("plot", trained, "--panels")
    assert result.out.split("\n")[:2] == [f"{trained}/panels.png", f"{trained}/panels.svg"]
    assert (trained / "panels.png").read_bytes().startswith(b"\x89PNG")
    assert llm("plot", trained, "--x", "time", "--out", "time.svg").code == 0
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    old = "".join(json.dumps({k: v for k, v in row.items() if k != "elapsed"}) + "\n" for row in rows)
    (trained / "metrics.jsonl").write_text(old)
    result = llm("plot", trained, "--x", "time")
    assert (result.code, "tiny run did not write down its time; use --x tokens" in result.err) == (3, True)


def test_the_floor_is_in_nats_per_token(trained):
    assert story_floor(trained) is None
    state = json.loads((trained / "ckpt" / "step-00000004" / "state.json").read_text())["last_eval"]
    (trained / "skills.json").write_text(json.dumps({"floor_bits_per_byte": state["val_bits_per_byte"] / 2}))
    assert story_floor(trained) == pytest.approx(state["val_loss"] / 2)
    (trained / "skills.json").write_text("{")
    assert story_floor(trained) is None


@pytest.mark.parametrize("backend", ["Qt4Agg", "module://nowhere"])
def test_a_leftover_backend_of_matplotlib_is_no_matter(backend, trained):
    """In a process of its own: matplotlib looks at the variable when it is imported."""
    words = [sys.executable, "-m", "llm_scratch", "plot", str(trained), "--out", str(trained / "p.svg")]
    done = subprocess.run(words, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (trained / "p.svg").is_file()
