"""`experiment scaling` prints the law, the floor and the prediction in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_scratch.cli.experiment_output import experiment_folder
from llm_scratch.experiments.scaling import ScalingFit, ScalingLaw
from llm_scratch.experiments.scaling_report import law_lines
from llm_scratch.experiments.scaling_runner import Prediction, ScalingOutcome

LAW = ScalingLaw(0.3, 40.0, 60.0, 0.5, 0.6)


@pytest.mark.parametrize(("floor", "verdict"), [(0.2906, "covers"), (0.5, "misses")])
def test_law_is_graded_by_the_known_entropy(floor, verdict):
    samples = tuple(ScalingLaw(E, 40.0, 60.0, 0.5, 0.6) for E in (0.28, 0.3, 0.32))
    prediction = Prediction(1000, 2000, 0.5, 0.4, 0.6, 0.45)
    lines = law_lines(
        ScalingOutcome(
            (), ScalingFit(LAW, samples, 0.01, 1.0), {1e9: (5000.0, None)}, prediction, floor
        )
    )
    assert lines[0] == "L = 0.3000 + 40 / N^0.500 + 60 / D^0.600 bits per byte, off by 0.0100."
    assert f"the interval {verdict} it" in lines[2]
    assert "5,000 parameters by the law; by a parabola: no minimum among the sizes" in lines[3]
    assert lines[4].endswith(
        "0.5000 (0.4000 to 0.6000); measured 0.4500, inside the interval, off by -0.0500."
    )


def test_law_that_does_not_describe_its_runs_is_named():
    lines = law_lines(ScalingOutcome((), ScalingFit(LAW, (LAW, LAW), 0.25, 1.4), {}, None, None))
    assert lines[2].startswith(
        "The law does not describe these runs: its errors are 18% of the differences"
    )


def test_default_folder_is_inside_runs_and_has_a_name_that_every_system_takes():
    assert experiment_folder("../a: b", "", "scaling") == Path("runs/scaling-a_b")
    assert experiment_folder("../a: b", "mine", "scaling") == Path("mine")
