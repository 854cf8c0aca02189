"""TensorBoard has the values of metrics.jsonl, each step once after a resume.

Without the package the error names the extra.
"""

from __future__ import annotations

import sys

import pytest

from llm_scratch.errors import UserError
from llm_scratch.presets import preset
from llm_scratch.training.callbacks import TrainState
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS
from llm_scratch.training.tensorboard import NAMES, TensorBoardLogger


def events(folder):
    """The values that TensorBoard shows: tag -> [(step, value)]."""
    reason = "needs TensorBoard to read its files back: pip install tensorboard"
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=reason
    )
    shown = accumulator.EventAccumulator(str(folder))
    shown.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in shown.Scalars(tag)]
        for tag in shown.Tags()["scalars"]
    }


def a_state(folder, step=0):
    return TrainState(config=preset("quickstart"), folder=folder, model=None, steps=9, step=step)


def write(folder, steps, start=0, back=None):
    board, state = TensorBoardLogger(), a_state(folder, start)
    board.started(state, resumed=start > 0)
    for step in steps:
        board.logged(
            state,
            {
                "step": step,
                "tokens": 10 * step,
                "loss": 5.0 - step,
                "lr": 0.1,
                "elapsed": 2.0 * step,
            },
        )
    if back is not None:
        state.step = back
        board.rolled_back(state)
        board.logged(state, {"step": back + 1, "tokens": 0, "loss": 9.0})
    board.closed(state, None)


def test_tensorboard_has_the_values_of_metrics(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3])
    shown = events(tmp_path / "tensorboard")
    expected = {
        "loss": [4.0, 3.0, 2.0],
        "tokens": [10, 20, 30],
        "lr": [0.1, 0.1, 0.1],
        "elapsed": [2.0, 4.0, 6.0],
    }
    for key, values in expected.items():
        assert shown[NAMES[key]] == list(zip([1, 2, 3], values))


def test_tensorboard_has_each_step_once_on_resume(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], start=2)
    assert [step for step, _ in events(tmp_path / "tensorboard")[NAMES["loss"]]] == [1, 2, 3, 4, 5]


def test_tensorboard_hides_steps_before_a_rollback(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    write(tmp_path, [1, 2, 3], back=1)
    assert events(tmp_path / "tensorboard")[NAMES["loss"]] == [(1, 4.0), (2, 9.0)]


def test_tensorboard_shows_an_unknown_value_under_training(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    board = TensorBoardLogger()
    board.started(a_state(tmp_path), resumed=False)
    board.logged(a_state(tmp_path), {"step": 1, "skipped": 1.0})
    board.closed(a_state(tmp_path), None)
    assert events(tmp_path / "tensorboard") == {"training/skipped": [(1, 1.0)]}


def test_tensorboard_stops_with_one_warning_when_the_disk_refuses(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")

    def refuse(*args):
        raise OSError(28, "No space left on device")

    warnings = []
    board = TensorBoardLogger(warnings.append)
    board.started(a_state(tmp_path), resumed=False)
    monkeypatch.setattr(board._writer, "add_scalar", refuse)
    for step in (1, 2):
        board.logged(a_state(tmp_path), {"step": step, "loss": 1.0})
    assert warnings == [
        "TensorBoard logging stopped: No space left on device; metrics.jsonl continues"
    ]


def test_tensorboard_names_every_timing_field():
    assert set(NONDETERMINISTIC_FIELDS) <= NAMES.keys()


def test_tensorboard_error_names_the_extra_when_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"needs the extra `track`; run pip install tensorboard"):
        TensorBoardLogger()
