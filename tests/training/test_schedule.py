"""Schedules: correct at both ends, in the middle and during the warmup."""

import math

import pytest

from llm_scratch.config import TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.training.schedule import SCHEDULES, learning_rate

RATES = {"lr": 1e-2, "min_lr": 1e-3}


@pytest.mark.parametrize(
    ("name", "middle", "end"),
    [("constant", 1e-2, 1e-2), ("linear", 5.5e-3, 1e-3), ("cosine", 5.5e-3, 1e-3)],
)
def test_schedules_at_both_ends_and_the_middle(name, middle, end):
    cfg = TrainConfig(**RATES, schedule=name)
    assert learning_rate(0, 100, cfg) == pytest.approx(1e-2)
    assert learning_rate(50, 100, cfg) == pytest.approx(middle)
    assert learning_rate(100, 100, cfg) == pytest.approx(end)
    assert learning_rate(150, 100, cfg) == pytest.approx(end)


def test_cosine_is_half_a_wave():
    cfg = TrainConfig(**RATES, schedule="cosine")
    for step in range(0, 101, 10):
        want = 1e-3 + 0.5 * (1e-2 - 1e-3) * (1 + math.cos(math.pi * step / 100))
        assert learning_rate(step, 100, cfg) == pytest.approx(want)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_evenly_to_the_highest_rate(name):
    cfg = TrainConfig(**RATES, schedule=name, warmup_steps=4)
    assert [learning_rate(step, 20, cfg) for step in range(5)] == pytest.approx(
        [2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2]
    )
    assert learning_rate(20, 20, cfg) == pytest.approx(SCHEDULES[name](1.0) * (1e-2 - 1e-3) + 1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_never_rise_after_warmup(name):
    cfg = TrainConfig(**RATES, schedule=name, warmup_steps=3)
    rates = [learning_rate(step, 50, cfg) for step in range(3, 51)]
    assert all(later <= earlier for earlier, later in zip(rates, rates[1:]))
    assert all(1e-3 - 1e-12 <= rate <= 1e-2 + 1e-12 for rate in rates)


def test_run_shorter_than_its_warm_up_only_rises():
    cfg = TrainConfig(**RATES, warmup_steps=10)
    assert [learning_rate(step, 3, cfg) for step in range(3)] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert learning_rate(10, 10, cfg) == pytest.approx(1e-2)


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(UserError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        learning_rate(0, 10, TrainConfig(schedule="cosin"))
