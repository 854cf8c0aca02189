"""The pace of a run, by a clock that the test sets."""

from __future__ import annotations

import pytest

from llm_scratch.training import pace as module
from llm_scratch.training.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """Sets the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_pace_leaves_out_the_evaluation_before_the_first_step(clock):
    """A first evaluation of 90 s and a step of 1 s do not make 91 s a step."""
    pace = Pace(5)
    assert pace.seconds_a_step(5) == 0
    clock(90)
    pace.evaluated(5)
    clock(91)
    assert (pace.seconds_a_step(6), pace.elapsed) == (1, 91)


def test_pace_counts_later_evaluations(clock):
    pace = Pace()
    clock(2)
    pace.evaluated(2)
    clock(8)
    assert (pace.seconds_a_step(2), pace.elapsed) == (4, 8)
