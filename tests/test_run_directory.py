"""A run directory as data: settings, metrics, evaluations, samples, checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch import open_run
from llm_scratch.config import dump_config
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.presets import preset
from llm_scratch.run_directory import Sample

QUICK = preset("quickstart").override(["train.lr=0.01"])
ROWS = [
    {"step": 0, "tokens": 0, "train_loss": 5.0, "val_loss": 5.1},
    {"step": 1, "tokens": 64, "loss": 4.0},
    {"step": 2, "tokens": 128, "train_loss": 3.2, "val_loss": 3.4},
    {"step": 4, "tokens": 256, "train_loss": 2.0, "val_loss": 3.6},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with settings and metrics."""
    (tmp_path / "config.yaml").write_text(dump_config(QUICK))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def test_open_run_reads_settings_metrics_and_evaluations(folder):
    run = open_run(str(folder))
    assert (run.path, run.config) == (folder, QUICK)
    assert run.metrics == ROWS
    assert [row["step"] for row in run.evaluations] == [0, 2, 4]
    assert (run.best, run.final) == (ROWS[2], ROWS[3])


def test_open_run_parses_metrics_once(folder):
    run = open_run(folder)
    first = run.metrics
    (folder / "metrics.jsonl").unlink()
    assert run.metrics is first


@pytest.mark.parametrize(
    "torn", ['{"step": 6, "val_lo', "\0\0\0\0", '{"step": 6, "loss"\n', "3\n", "{}\n", "\n"]
)
def test_metrics_skip_a_line_that_is_not_a_row(folder, torn):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert open_run(folder).metrics == ROWS


def test_evaluations_skip_a_loss_that_is_not_a_number(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "val_loss": "low"}\n{"step": 6, "val_loss": null}\n')
    run = open_run(folder)
    assert (run.best, run.final) == (ROWS[2], ROWS[3])
    assert run.metrics[-1]["step"] == 6


def test_new_run_has_no_metrics_samples_or_checkpoints(folder):
    (folder / "metrics.jsonl").unlink()
    run = open_run(folder)
    assert (run.metrics, run.evaluations, run.samples, run.checkpoints, run.environment) == (
        [],
        [],
        [],
        [],
        {},
    )
    assert (run.best, run.final) == ({}, {})


def test_samples_are_in_order_and_a_text_cannot_begin_an_earlier_one(folder):
    headings = (
        "# Samples\n\n## Step 10, 1,000 tokens\n\nOne\n\n## Step 5,"
        " 7 tokens\n\nstill one\n\n## Step 20, 2,000 tokens\n\nTwo\n"
    )
    (folder / "samples.md").write_text(headings)
    assert open_run(folder).samples == [
        Sample(10, 1000, "One\n\n## Step 5, 7 tokens\n\nstill one"),
        Sample(20, 2000, "Two"),
    ]


@pytest.mark.parametrize("text", ["", "# Samples\n", "\0", "## Step 3"])
def test_samples_are_empty_before_the_first(folder, text):
    (folder / "samples.md").write_text(text)
    assert open_run(folder).samples == []


def test_checkpoints_are_newest_first_without_partial_ones(folder):
    for name in ("step-00000002", "step-00000010", "step-00000012.tmp-7", "quarantine"):
        (folder / "ckpt" / name).mkdir(parents=True)
    assert [path.name for path in open_run(folder).checkpoints] == [
        "step-00000010",
        "step-00000002",
    ]


def test_open_run_rejects_a_folder_without_settings(tmp_path):
    with pytest.raises(UserError, match=r"not a run directory.*runs list") as error:
        open_run(tmp_path)
    assert error.value.code == CHECKPOINT


def test_open_run_does_not_import_torch(folder):
    code = (
        f"import sys, llm_scratch; llm_scratch.open_run({str(folder)!r}).metrics;"
        " print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert "llm_scratch.run_directory" in run.stdout.split()
    assert not {"torch", "numpy", "matplotlib"} & set(run.stdout.split())
