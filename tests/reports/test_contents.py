"""Every file of a run directory may be missing from a report; invalid values are skipped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace

import pytest

from llm_scratch.config import dump_config
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.presets import preset
from llm_scratch.reports.contents import MAX_SAMPLES, collect, spread_out
from llm_scratch.run_directory import Sample
from llm_scratch.training.lock import exclusive_writer

QUICK = preset("quickstart")
ROWS = [
    {
        "step": 0,
        "tokens": 0,
        "passes": 0.0,
        "train_loss": 7.0,
        "val_loss": 7.0,
        "val_bits_per_byte": 2.5,
    },
    {
        "step": 50,
        "tokens": 500,
        "loss": 3.0,
        "lr": 0.01,
        "grad_norm": 1.0,
        "seconds": 0.5,
        "elapsed": 20.0,
    },
    {
        "step": 100,
        "tokens": 1000,
        "passes": 0.1,
        "train_loss": 2.0,
        "val_loss": 2.1,
        "val_bits_per_byte": 0.75,
    },
]


def make(folder, config=QUICK, rows=ROWS, state=None):
    """A run directory of small files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config))
    if rows is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state is not None:
        checkpoint = folder / "ckpt" / "step-00000001"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps(state))
        (folder / "ckpt" / "latest").write_text(checkpoint.name)
    return folder


def test_collect_reads_the_files_of_a_run(tmp_path):
    found = collect(make(tmp_path / "2026-07-01-quickstart", state={"step": 100, "steps": 1100}))
    assert (found.name, found.state, found.step, found.tokens) == (
        "2026-07-01-quickstart",
        "stopped",
        100,
        1000,
    )
    assert found.lines.val.tolist() == [[0, 100], [7.0, 2.1]]
    assert found.floor is not None
    assert (
        found.lines.floor
        == found.floor.nats_per_token
        == pytest.approx(found.floor.bits_per_byte * 7.0 / 2.5)
    )
    assert (found.preset, found.changes) == ("quickstart", [])
    assert found.measured == {"seconds_per_step": 0.5}
    assert (found.plan, found.skills, found.environment, found.samples) == (None, None, {}, ())


STATES = {
    "finished": ({"step": 100, "steps": 100}, ROWS),
    "stopped": (None, ROWS),
    "diverged": ({"step": 50, "steps": 1100}, [*ROWS, {"step": 120, "diverged": 1}]),
    "not started": (None, None),
    "imported": ({"step": 0, "steps": 0, "made_from": "model.pth"}, None),
}


@pytest.mark.parametrize("name", STATES)
def test_report_state_follows_the_files_of_the_run(tmp_path, name):
    state, rows = STATES[name]
    assert collect(make(tmp_path, rows=rows, state=state)).state == name


def test_quantized_model_is_reported_as_quantized(tmp_path):
    found = collect(
        make(tmp_path, QUICK, state={"step": 0, "steps": 0, "quantized": 8, "made_from": "runs/a"})
    )
    assert (found.state, found.run.description) == ("quantized", "runs/a quantized to 8 bits")


def test_report_state_is_running_while_the_run_is_locked(tmp_path):
    folder = make(tmp_path)
    with exclusive_writer(folder, print):
        assert collect(folder).state == "running"
    assert collect(folder).state == "stopped"
    assert not (folder / "run.lock").exists(), "reading makes no lock"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"skills": 3}', '{"memory": {}}', "\0\0", "1e999"]
)
def test_collect_skips_damaged_files(tmp_path, damage):
    folder = make(tmp_path)
    for name in ("skills.json", "plan.json", "env.json", "samples.md"):
        (folder / name).write_text(damage)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(damage + "\n")
    found = collect(folder)
    assert (found.skills, found.plan, found.samples) == (None, None, ())
    assert found.step == 100


def test_collect_skips_non_finite_values(tmp_path):
    rows = [
        *ROWS,
        {"step": 101, "loss": None, "val_loss": "low", "train_loss": [1], "tokens": 1010},
    ]
    found = collect(make(tmp_path, rows=rows))
    assert found.rows[-1] == {"step": 101, "tokens": 1010}


def test_collect_rejects_a_folder_that_is_not_a_run(tmp_path):
    with pytest.raises(UserError, match="not a run directory") as error:
        collect(tmp_path)
    assert error.value.code == CHECKPOINT


def test_spread_out_keeps_first_last_and_even_spacing():
    many = [Sample(i, 1, "") for i in range(101)]
    few = spread_out(many, MAX_SAMPLES)
    assert (len(few), few[0].step, few[-1].step) == (MAX_SAMPLES, 0, 100)
    steps = [sample.step for sample in few]
    assert (
        max(b - a for a, b in zip(steps, steps[1:])) - min(b - a for a, b in zip(steps, steps[1:]))
        <= 1
    )
    assert spread_out(many[:3], MAX_SAMPLES) == many[:3]


def test_report_lists_settings_that_differ_from_the_preset(tmp_path):
    config = replace(QUICK, train=replace(QUICK.train, steps=100))
    found = collect(make(tmp_path / "quickstart", config))
    assert [asdict(change) for change in found.changes] == [
        {"name": "train.steps", "value": 100, "preset_value": 1100}
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no folder without permission to read")
def test_collect_does_not_modify_the_run(tmp_path):
    folder = make(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    collect(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
