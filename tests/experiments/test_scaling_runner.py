"""A grid is trained once, and the prediction is written before its run.

An invalid file is an error.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.grid import n_parameters
from llm_scratch.experiments.scaling import ScalingLaw
from llm_scratch.experiments.scaling_runner import (
    PREDICTION_FILE,
    ScalingExperiment,
    read_scaling,
    run_scaling,
)

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

LAW = ScalingLaw(0.3, 40.0, 60.0, 0.5, 0.6)


@pytest.fixture
def grid(base):
    """Three sizes with three budgets, and a larger run."""
    sizes = tuple(Arm(str(width), (f"model.emb_dim={width}",)) for width in (8, 16, 32))
    return ScalingExperiment(
        "sizes", str(base), sizes, (1e7, 3e7, 1e8), Arm("predicted", ("model.emb_dim=64",)), 1e9
    )


@pytest.fixture
def known_law(monkeypatch):
    """Stub of training: the loss nearly follows `LAW`. Returns the widths in order."""
    widths = []

    def train(config, folder, **more):
        widths.append(config.model.emb_dim)
        tokens = config.train.steps * config.train.batch_size * config.model.context_length // 2
        noise = 1e-4 * np.random.default_rng([config.model.emb_dim, config.train.steps]).normal()
        loss = float(LAW.loss(n_parameters(config), tokens)) + noise
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(
            json.dumps({"step": config.train.steps, "tokens": tokens, "val_bits_per_byte": loss})
            + "\n"
        )

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    return widths


def test_law_of_the_grid_is_found_and_the_larger_run_predicted_before_it_is_trained(
    grid, tmp_path, known_law
):
    outcome = run_scaling(grid, tmp_path / "out")
    assert known_law == [8, 16, 32] * 3 + [64]
    law = outcome.fit.law
    assert (law.E, law.a, law.b) == pytest.approx((LAW.E, LAW.a, LAW.b), rel=0.05)
    prediction = outcome.prediction
    assert prediction.low <= prediction.measured <= prediction.high
    written = json.loads((tmp_path / "out" / PREDICTION_FILE).read_text())
    assert written["loss"] == prediction.loss
    assert written["measured"] is None
    assert outcome.floor is None
    assert list(outcome.best_sizes) == [1e7, 3e7, 1e8]
    run_scaling(grid, tmp_path / "out")
    assert len(known_law) == 10


def test_prediction_that_was_written_is_not_made_again(grid, tmp_path, known_law):
    run_scaling(grid, tmp_path / "out")
    path = tmp_path / "out" / PREDICTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loss": 9.0}))
    assert run_scaling(grid, tmp_path / "out").prediction.loss == 9.0


def test_other_grid_in_the_folder_is_an_error(grid, tmp_path, known_law):
    run_scaling(grid, tmp_path / "out")
    changed = replace(
        grid,
        sizes=(
            replace(grid.sizes[0], settings=(*grid.sizes[0].settings, "train.lr=0.5")),
            *grid.sizes[1:],
        ),
    )
    with pytest.raises(UserError, match="holds a run with other settings"):
        run_scaling(changed, tmp_path / "out")
    with pytest.raises(UserError, match="equal to three digits"):
        run_scaling(replace(grid, flops=(1e7, 1.0001e7)), tmp_path / "new")


def test_run_that_diverges_stops_the_grid_with_its_name(grid, tmp_path, monkeypatch):
    def train(config, folder, **more):
        raise UserError("training diverged", DIVERGED)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    with pytest.raises(UserError, match="run 8 1e\\+07: training diverged"):
        run_scaling(grid, tmp_path / "out")


def test_invalid_size_is_found_before_the_first_run(grid, tmp_path, known_law):
    with pytest.raises(UserError, match="not a multiple"):
        run_scaling(
            replace(grid, predicted=Arm("predicted", ("model.n_heads=3",))), tmp_path / "out"
        )
    assert known_law == []


GOOD = "base: quickstart\nsizes: {a: [model.emb_dim=32], b: []}\nflops: [1e9, 2e9]\n"


def test_grid_file_is_read(tmp_path):
    path = tmp_path / "sizes.yaml"
    path.write_text(GOOD + "predict: {size: [model.emb_dim=192], flops: 4e12}\n")
    experiment = read_scaling(path)
    assert experiment.name == "sizes"
    assert experiment.flops == (1e9, 2e9)
    assert experiment.predicted.settings == ("model.emb_dim=192",)
    assert experiment.predicted_flops == 4e12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: quickstart\nsizes: {}\n", "flops is missing"),
        (GOOD + "size: 3\n", "did you mean 'sizes'"),
        (GOOD.replace("1e9", "many"), "flops: 'many' is out of range"),
        (GOOD + "predict: {size: []}\n", "not a size and its flops"),
        (GOOD.replace("{a: [model.emb_dim=32], b: []}", "3"), "not a mapping"),
        (GOOD.replace("[model.emb_dim=32]", "[32]"), "not a list of settings"),
    ],
)
def test_invalid_grid_file_is_an_error(tmp_path, text, message):
    (tmp_path / "sizes.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_scaling(tmp_path / "sizes.yaml")
