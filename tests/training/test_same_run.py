"""Which settings may differ when a run is resumed."""

from dataclasses import replace
from pathlib import Path

import pytest

from llm_scratch.config import OBSERVATION_SETTINGS, RunConfig, SystemConfig, TrainConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.training.same_run import check_same_run, difference

BASE = RunConfig()
OTHER = {"prompt": "x", "eval_batches": None}


def changed(**train):
    return replace(BASE, train=replace(BASE.train, **train))


def test_observation_settings_may_change_on_resume():
    everything = {name: OTHER.get(name, 7) for name in OBSERVATION_SETTINGS}
    check_same_run(
        Path("x"), BASE, replace(changed(**everything), system=SystemConfig(precision="float32"))
    )
    assert difference(BASE, changed(**everything)) == ""


@pytest.mark.parametrize(
    "name", sorted(set(vars(TrainConfig())) - OBSERVATION_SETTINGS - {"steps", "epochs"})
)
def test_learning_settings_may_not_change_on_resume(name):
    values = {
        "optimizer": "muon",
        "schedule": "linear",
        "decay": "all",
        "betas": (0.1, 0.2),
        "grad_clip": None,
        "rollback_lr": 0.25,
        "warmup_steps": 3,
    }
    value = values.get(name, 2 * (getattr(BASE.train, name) or 0.25))
    with pytest.raises(
        UserError,
        match=rf"other settings \(train\.{name} is .* there, .* here\); .* --fresh --force, which",
    ) as error:
        check_same_run(Path("x"), BASE, changed(**{name: value}))
    assert error.value.code == CHECKPOINT


@pytest.mark.parametrize("train", [{"steps": 1001}, {"epochs": 1}])
def test_run_may_get_longer(train):
    check_same_run(Path("x"), BASE, changed(**train))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            {"steps": 1000},
            {"steps": 999},
            "x is a run of 1,000 steps and cannot be shortened to 999",
        ),
        ({"epochs": 3}, {"epochs": 2}, "x is a run of 3 epochs and cannot be shortened to 2"),
        (
            {"epochs": 3},
            {"epochs": 3, "steps": 5},
            "so --train.steps has no effect; use a larger --train.epochs",
        ),
    ],
)
def test_run_may_not_get_shorter(old, new, message):
    with pytest.raises(UserError, match=message):
        check_same_run(Path("x"), changed(**old), changed(**new))


def test_another_architecture_is_another_run():
    """Settings that only one of the two architectures has are not compared."""
    other = BASE.with_model(architecture="nanochat")
    assert difference(BASE, other) == "model.architecture is gpt there, nanochat here"
    assert difference(other, BASE) == "model.architecture is nanochat there, gpt here"
