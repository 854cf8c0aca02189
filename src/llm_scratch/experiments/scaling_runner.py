"""Run a grid of sizes and budgets, fit a scaling law, predict a larger run, and train that.

    name: sizes
    base: quickstart
    sizes:                            # smallest to largest
      32: [model.emb_dim=32]
      64: [model.emb_dim=64]
      128: [model.emb_dim=128]
    flops: [1e11, 3e11, 1e12]         # of a run; every size is trained with each
    predict: {size: [model.emb_dim=192], flops: 4e12}

Tests: tests/experiments/test_scaling_runner.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.config import RunConfig
from llm_scratch.data.stories import floor_bits_per_byte
from llm_scratch.errors import USAGE, UserError, unknown
from llm_scratch.experiments.arms import Corpora, arm_config, base_config
from llm_scratch.experiments.experiment import Arm, Budget, parse_settings
from llm_scratch.experiments.grid import (
    claim,
    grid_config,
    n_parameters,
    n_positions,
    open_session,
    positive_number,
    run_missing,
    with_seed,
)
from llm_scratch.experiments.results import Results, RunResult
from llm_scratch.experiments.run_folders import check_folder_names, folder_name
from llm_scratch.experiments.runner import ExperimentCallback, Job, RunJobs
from llm_scratch.experiments.scaling import ScalingFit, fit_scaling_law, parabola_minimum
from llm_scratch.experiments.statistics import distributions
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_yaml
from llm_scratch.training.lock import exclusive_writer

PREDICTION_FILE = "prediction.json"
PREDICTED = "predicted"
"""Name of the run that is predicted."""
KEYS = ("name", "base", "sizes", "flops", "predict", "seed")


@dataclass(frozen=True)
class ScalingExperiment:
    """A grid of runs and a run to predict.

    Attributes:
        name: of the experiment.
        base: a preset or a run directory.
        sizes: settings of each size.
        flops: budgets; every size is trained with each.
        predicted: the size that is predicted; None for a fit alone.
        predicted_flops: its budget.
        seed: of every run.
    """

    name: str
    base: str
    sizes: tuple[Arm, ...]
    flops: tuple[float, ...]
    predicted: Arm | None = None
    predicted_flops: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class Prediction:
    """The loss of a run larger than the grid, with a 95 % interval, and the measured one."""

    parameters: int
    tokens: int
    loss: float
    low: float
    high: float
    measured: float | None


@dataclass(frozen=True)
class ScalingOutcome:
    """A finished grid.

    Attributes:
        runs: (parameters, result) of each.
        fit: of the law, losses in bits per byte.
        best_sizes: budget -> best number of parameters, by the law and by a parabola (None: its
            minimum is outside the grid).
        prediction: None without a run to predict.
        floor: the true E in bits per byte, where the text's entropy is known.
    """

    runs: tuple[tuple[int, RunResult], ...]
    fit: ScalingFit
    best_sizes: dict[float, tuple[float, float | None]]
    prediction: Prediction | None
    floor: float | None


def read_scaling(path: str | Path) -> ScalingExperiment:
    """Read a grid from a YAML file.

    Raises:
        UserError: a missing file, invalid YAML, an unknown or missing key, or a value of the wrong
            kind.
    """
    values = {"name": Path(path).stem} | read_yaml(path, USAGE)
    for key in values:
        if key not in KEYS:
            raise unknown("key of a scaling experiment", key, KEYS)
    for key in ("base", "sizes", "flops"):
        if key not in values:
            raise UserError(
                f"scaling experiment: {key} is missing; docs/experiments.md has an example"
            )
    sizes, predict = values["sizes"], values.get("predict")
    if not isinstance(sizes, Mapping):
        raise UserError(
            f"sizes: {sizes!r} is not a mapping; give lines such as `64: [model.emb_dim=64]`"
        )
    predicted = None
    if predict is not None:
        if not isinstance(predict, Mapping) or set(predict) != {"size", "flops"}:
            raise UserError(
                f"predict: {predict!r} is not a size and its flops; give {{size:"
                " [model.emb_dim=192], flops: 4e12}"
            )
        predicted = Arm(PREDICTED, parse_settings("predict", predict["size"]))
    arms = tuple(
        Arm(str(name), parse_settings(str(name), settings)) for name, settings in sizes.items()
    )
    budgets = values["flops"] if isinstance(values["flops"], list) else [values["flops"]]
    return ScalingExperiment(
        str(values["name"]),
        str(values["base"]),
        arms,
        tuple(_flops(budget) for budget in budgets),
        predicted,
        _flops(predict["flops"]) if predict else 0.0,
        int(values.get("seed", 1)),
    )


def _flops(value: Any) -> float:
    return positive_number("flops", value, "1e12")


def run_scaling(
    experiment: ScalingExperiment,
    folder: str | Path,
    *,
    device: str = "cpu",
    callback: ExperimentCallback | None = None,
    run_jobs: RunJobs | None = None,
) -> ScalingOutcome:
    """Run what is left of a grid, fit the law, and only then train the run that it predicts.

    Args:
        experiment: the grid.
        folder: its folder; the same call continues there.
        device: "cpu", "cuda" or "mps".
        callback: callbacks.
        run_jobs: as in `run_experiment`.
    Raises:
        UserError: an invalid setting, found before the first run; too few runs for the law; a run
            that did not finish.
    """
    distributions()
    folder = Path(folder)
    session = open_session(folder, device, callback, run_jobs)
    configs = _configs(experiment, session.corpora)
    predicted = configs.pop(PREDICTED, None)
    all_configs = configs if predicted is None else {**configs, PREDICTED: predicted}
    check_folder_names(all_configs)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_writer(folder, lambda message: None):
        claim(folder, all_configs)
        results = Results(folder, [(name, experiment.seed) for name in (*configs, PREDICTED)])
        session.callback.started(len(configs) + (predicted is not None), len(results.all()))
        jobs = [
            Job(name, experiment.seed, config, folder / folder_name(name))
            for name, config in configs.items()
        ]
        finished = run_missing(session, results, jobs, may_diverge=False)
        runs = tuple(
            (n_parameters(job.config), result) for job, result in zip(jobs, finished, strict=True)
        )
        fit = _fit(runs)
        prediction = None
        if predicted is not None:
            n_tokens = sum(result.tokens for _, result in runs)
            filled = n_tokens / sum(map(n_positions, configs.values()))
            prediction = _predict(fit, predicted, filled, folder / PREDICTION_FILE)
            job = Job(PREDICTED, experiment.seed, predicted, folder / PREDICTED)
            (result,) = run_missing(session, results, [job], may_diverge=False)
            prediction = replace(prediction, measured=result.value)
    is_stories = base_config(experiment.base).data.is_stories
    floor = floor_bits_per_byte() if is_stories else None
    return ScalingOutcome(runs, fit, _best_sizes(experiment, fit, runs), prediction, floor)


def _fit(runs: Sequence[tuple[int, RunResult]]) -> ScalingFit:
    """The law of finished runs: (parameters, result) of each."""
    columns = zip(*((n, result.tokens, result.value) for n, result in runs), strict=True)
    parameters, tokens, losses = (np.array(column, dtype=float) for column in columns)
    return fit_scaling_law(parameters, tokens, losses)


def _configs(experiment: ScalingExperiment, corpora: Corpora) -> dict[str, RunConfig]:
    """The settings of every run by its name, budget by budget, and of the run to predict."""
    configs = {
        f"{size.name} {budget:.3g}": _config(experiment, size, budget, corpora)
        for budget in experiment.flops
        for size in experiment.sizes
    }
    if len(configs) < len(experiment.flops) * len(experiment.sizes):
        raise UserError("flops: two budgets are equal to three digits; leave one out")
    if experiment.predicted is not None:
        configs[PREDICTED] = _config(
            experiment, experiment.predicted, experiment.predicted_flops, corpora
        )
    return configs


def _config(experiment: ScalingExperiment, size: Arm, flops: float, corpora: Corpora) -> RunConfig:
    """The settings of a run of the grid, checked against its text."""
    config = with_seed(arm_config(base_config(experiment.base), size), experiment.seed)
    return grid_config(config, Budget("flops", flops), config, corpora)


def _predict(fit: ScalingFit, config: RunConfig, filled: float, path: Path) -> Prediction:
    """The prediction, written before the run; one that was written before is kept.

    Args:
        fit: of the grid.
        config: of the run.
        filled: share of the positions that hold a token.
        path: of the file.
    """
    if path.is_file():
        return Prediction(**json.loads(path.read_text(encoding="utf-8")))
    parameters = n_parameters(config)
    tokens = round(filled * n_positions(config))
    prediction = Prediction(parameters, tokens, *fit.prediction(parameters, tokens), measured=None)
    atomic_write(path, json.dumps(vars(prediction)) + "\n")
    return prediction


def _best_sizes(
    experiment: ScalingExperiment, fit: ScalingFit, runs: tuple[tuple[int, RunResult], ...]
) -> dict[float, tuple[float, float | None]]:
    """For each budget of the grid the best number of parameters, by the law and by the parabola."""
    n_sizes = len(experiment.sizes)
    best_sizes: dict[float, tuple[float, float | None]] = {}
    for i, budget in enumerate(experiment.flops):
        of_budget = runs[i * n_sizes : (i + 1) * n_sizes]
        sizes = np.array([parameters for parameters, _ in of_budget], dtype=float)
        losses = np.array([result.value for _, result in of_budget], dtype=float)
        try:
            minimum = parabola_minimum(sizes, losses)
        except UserError:
            minimum = 0.0
        best_sizes[budget] = (
            fit.law.best_size(budget)[0],
            minimum if sizes.min() <= minimum <= sizes.max() else None,
        )
    return best_sizes
