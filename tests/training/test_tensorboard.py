"""TensorBoard has the values of metrics.jsonl, each step once on resume; without the package the error names the extra."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from llm_scratch.errors import UserError
from llm_scratch.presets import preset
from llm_scratch.run_directory import iter_metrics
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS, RunLogger
from llm_scratch.training.tensorboard import NAMES, TensorBoardLogger


def events(folder):
    """What TensorBoard would show: tag -> [(step, value)]."""
    reason = "needs TensorBoard to read its files back: pip install tensorboard"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    shown = accumulator.EventAccumulator(str(folder))
    shown.Reload()
    return {tag: [(event.step, pytest.approx(event.value)) for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def write(folder, steps, start=0, back=None):
    config = preset("quickstart")
    with RunLogger(replace(config, system=replace(config.system, tensorboard=True)), folder, start) as records:
        for step in steps:
            records.log_metrics({"step": step, "tokens": 10 * step, "loss": 5.0 - step, "lr": 0.1})
        if back is not None:
            records.truncate_to(back)
            records.log_metrics({"step": back + 1, "tokens": 0, "loss": 9.0})


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    monkeypatch.setattr("llm_scratch.training.run_logger.plot_runs", lambda *args: None)


def test_tensorboard_has_the_values_of_metrics(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3])
    shown = events(tmp_path / "tensorboard")
    rows = list(iter_metrics(tmp_path / "metrics.jsonl"))
    for key in ("loss", "tokens", "lr", "elapsed"):
        assert [(row["step"], row[key]) for row in rows] == shown[NAMES[key]]


def test_tensorboard_has_each_step_once_on_resume(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], start=2)
    assert [step for step, _ in events(tmp_path / "tensorboard")[NAMES["loss"]]] == [1, 2, 3, 4, 5]


def test_tensorboard_hides_steps_before_a_rollback(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3], back=1)
    assert events(tmp_path / "tensorboard")[NAMES["loss"]] == [(1, 4.0), (2, 9.0)]


def test_tensorboard_skips_non_finite_values(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    board = TensorBoardLogger(tmp_path, 0)
    board.write({"step": 1, "loss": float("nan"), "skipped": 1.0, "why": "spike"})
    board.close()
    assert events(tmp_path) == {"training/skipped": [(1, 1.0)]}


def test_tensorboard_names_every_timing_field():
    assert set(NONDETERMINISTIC_FIELDS) <= NAMES.keys()


def test_tensorboard_error_names_the_extra_when_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"needs the extra `track`; run pip install tensorboard"):
        write(tmp_path, [1])


def test_tensorboard_is_off_by_default(tmp_path):
    with RunLogger(preset("quickstart"), tmp_path, 0) as records:
        records.log_metrics({"step": 1, "loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()
