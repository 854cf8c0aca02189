"""Run learning-rate transfer: every arm at every width with every rate and seed.

    name: transfer
    base: quickstart
    widths: [32, 64, 128]             # of the model; the number of heads stays that of the base
    rates: [0.001, 0.002, 0.004]      # at least three
    arms:
      standard: [train.optimizer=adamw]
      muP: {file: arms/mup.py}
    seeds: 3
    budget: {tokens: 100000}          # or flops; default: the tokens of the base

Tests: tests/experiments/test_transfer_runner.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.config import RunConfig
from llm_scratch.errors import USAGE, UserError, unknown
from llm_scratch.experiments.arms import (
    STEP_SETTINGS,
    Corpora,
    arm_config,
    base_config,
    reject_ignored,
)
from llm_scratch.experiments.experiment import (
    MAX_SEEDS,
    Arm,
    Budget,
    parse_arms,
    parse_base,
    parse_budget,
    parse_seeds,
)
from llm_scratch.experiments.grid import (
    claim,
    grid_config,
    open_session,
    positive_number,
    run_missing,
    with_seed,
)
from llm_scratch.experiments.results import Results, RunResult
from llm_scratch.experiments.run_folders import check_folder_names, run_folder
from llm_scratch.experiments.runner import ExperimentCallback, Job, RunJobs
from llm_scratch.experiments.statistics import distributions
from llm_scratch.experiments.transfer import Transfer, analyze
from llm_scratch.storage.safe_parse import read_yaml
from llm_scratch.training.lock import exclusive_writer

KEYS = ("name", "base", "widths", "rates", "arms", "seeds", "budget")
MIN_RATES = 3
IGNORED = {
    "train.seed": "the experiment sets the seeds",
    "train.lr": "the experiment sets the rates",
    "model.emb_dim": "the experiment sets the widths",
    **dict.fromkeys(STEP_SETTINGS, "the budget sets the steps"),
}
"""Setting that an arm may not have -> what sets it."""


@dataclass(frozen=True)
class TransferExperiment:
    """Arms that are trained at several widths, each with several rates.

    Attributes:
        name: of the experiment.
        base: a preset or a run directory.
        widths, rates: ascending.
        arms: at least one.
        seeds: of each combination, at least one.
        budget: of a run.
    """

    name: str
    base: str
    widths: tuple[int, ...]
    rates: tuple[float, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if not 1 <= len(self.seeds) <= MAX_SEEDS or len(set(self.seeds)) < len(self.seeds):
            raise UserError(
                f"seeds: {list(self.seeds)[:9]} are invalid;"
                f" give 1 to {MAX_SEEDS:,} different seeds, such as 3"
            )


@dataclass(frozen=True)
class TransferOutcome:
    """A finished experiment.

    Attributes:
        experiment: what was run.
        results: of all runs.
        losses: arm -> bits per byte, [widths, rates, seeds]; infinite where a run diverged.
        transfers: arm -> its best rates and their trend.
    """

    experiment: TransferExperiment
    results: tuple[RunResult, ...]
    losses: dict[str, np.ndarray]
    transfers: dict[str, Transfer]


def read_transfer(path: str | Path) -> TransferExperiment:
    """Read the experiment from a YAML file; the paths in it are relative to the file.

    Raises:
        UserError: a missing file, invalid YAML, an unknown or missing key, or a value of the wrong
            kind.
    """
    folder = Path(path).parent
    values = {"name": Path(path).stem, "seeds": 3, "budget": "tokens"} | read_yaml(path, USAGE)
    for key in values:
        if key not in KEYS:
            raise unknown("key of a transfer experiment", key, KEYS)
    for key in KEYS:
        if key not in values:
            raise UserError(
                f"transfer experiment: {key} is missing; docs/experiments.md has an example"
            )
    budget = parse_budget(values["budget"])
    if budget.unit not in ("tokens", "flops"):
        raise UserError(f"budget: {budget.unit} is not supported here; give tokens or flops")
    widths = _ascending("widths", values["widths"], 2, "[32, 64, 128]")
    if any(width % 1 for width in widths):
        raise UserError(f"widths: {values['widths']!r} are not whole numbers; give whole numbers")
    return TransferExperiment(
        str(values["name"]),
        parse_base(values["base"], folder),
        tuple(int(width) for width in widths),
        _ascending("rates", values["rates"], MIN_RATES, "[0.001, 0.002, 0.004]"),
        parse_arms(values["arms"], folder),
        parse_seeds(values["seeds"]),
        budget,
    )


def _ascending(key: str, value: Any, least: int, example: str) -> tuple[float, ...]:
    """Different positive numbers in ascending order."""
    if not isinstance(value, list) or len(value) < least:
        raise UserError(f"{key}: {value!r} is not a list of at least {least}; give {example}")
    numbers = sorted(positive_number(key, each, example) for each in value)
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{key}: {value!r} has a number twice; leave one out")
    return tuple(numbers)


def run_transfer(
    experiment: TransferExperiment,
    folder: str | Path,
    *,
    device: str = "cpu",
    callback: ExperimentCallback | None = None,
    run_jobs: RunJobs | None = None,
) -> TransferOutcome:
    """Run what is left of the experiment, seed by seed, and find the best rates.

    Args:
        experiment: what to run.
        folder: its folder; the same call continues there, also with more seeds.
        device: "cpu", "cuda" or "mps".
        callback: callbacks.
        run_jobs: as in `run_experiment`.
    Raises:
        UserError: an invalid setting, found before the first run; other settings in the folder; a
            run that failed.
    """
    distributions()
    folder = Path(folder)
    files = tuple(arm.file for arm in experiment.arms if arm.file)
    session = open_session(folder, device, callback, run_jobs, files)
    configs = _configs(experiment, session.corpora)
    check_folder_names(configs)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_writer(folder, lambda message: None):
        claim(folder, configs, [Path(file) for file in files])
        jobs = [
            Job(name, seed, with_seed(config, seed), run_folder(folder, name, seed))
            for seed in experiment.seeds
            for name, config in configs.items()
        ]
        results = Results(folder, [(job.arm, job.seed) for job in jobs])
        session.callback.started(len(jobs), len(results.all()))
        run_results = run_missing(session, results, jobs)
    return _outcome(experiment, tuple(run_results))


def _outcome(experiment: TransferExperiment, results: tuple[RunResult, ...]) -> TransferOutcome:
    """The best rates of finished runs, which are in the order of `_points` for each seed."""
    values = [np.inf if result.value is None else result.value for result in results]
    shape = [
        len(each)
        for each in (experiment.seeds, experiment.arms, experiment.widths, experiment.rates)
    ]
    by_arm = np.array(values).reshape(shape).transpose(1, 2, 3, 0)  # [arms, W, R, S]
    losses = {arm.name: by_arm[i] for i, arm in enumerate(experiment.arms)}
    widths, rates = np.array(experiment.widths, dtype=float), np.array(experiment.rates)
    return TransferOutcome(
        experiment,
        results,
        losses,
        {name: analyze(widths, rates, each) for name, each in losses.items()},
    )


def run_name(arm: str, width: int, rate: float) -> str:
    """The name of a run: "muP 64 0.002"."""
    return f"{arm} {width} {rate:g}"


def _points(experiment: TransferExperiment) -> Iterator[tuple[Arm, int, float]]:
    """The arm, width and rate of every run of a seed."""
    for arm in experiment.arms:
        for width in experiment.widths:
            for rate in experiment.rates:
                yield arm, width, rate


def _configs(experiment: TransferExperiment, corpora: Corpora) -> dict[str, RunConfig]:
    """The settings of every run by its name, but for the seed."""
    base = base_config(experiment.base)
    fitted: dict[tuple[str, int], RunConfig] = {}
    for arm in experiment.arms:
        reject_ignored(arm, IGNORED)
        config = arm_config(base, arm)
        for width in experiment.widths:
            wide = config.override([f"model.emb_dim={width}"])
            fitted[arm.name, width] = grid_config(wide, experiment.budget, base, corpora)
    configs = {
        run_name(arm.name, width, rate): fitted[arm.name, width].override([f"train.lr={rate}"])
        for arm, width, rate in _points(experiment)
    }
    if len(configs) < len(list(_points(experiment))):
        raise UserError("rates: two are equal to six digits; leave one out")
    return configs
