"""Grids of runs: what scaling laws, learning-rate transfer and the budget game have in common.

Tests: tests/experiments/test_grid.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llm_scratch.config import RunConfig, dump_config, load_config
from llm_scratch.errors import UserError
from llm_scratch.experiments.arms import Corpora, with_budget
from llm_scratch.experiments.experiment import Budget
from llm_scratch.experiments.metrics import find_metric
from llm_scratch.experiments.results import Results, RunResult
from llm_scratch.experiments.runner import (
    ExperimentCallback,
    Job,
    Session,
    one_by_one,
    settings_file,
)
from llm_scratch.model import build
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.validate import validate


def open_session(folder: Path, device: str, callback: ExperimentCallback | None) -> Session:
    """A session whose runs are measured in bits per byte, one after the other."""
    metric = find_metric("bits_per_byte")
    return Session(folder, metric, Corpora(), device, callback or ExperimentCallback(), one_by_one)


def grid_config(
    config: RunConfig, budget: Budget, reference: RunConfig, corpora: Corpora
) -> RunConfig:
    """The settings of a run with the steps of a budget, checked against its text.

    Args:
        config: of the run, but for its steps.
        budget: without an amount, what `reference` spends.
        reference: settings of the base.
        corpora: the texts.
    """
    config = with_budget(config, budget, reference)
    config = replace(config, train=replace(config.train, sample_every=0))
    validate(config)
    return corpora.fit(config)


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The settings with another seed."""
    return replace(config, train=replace(config.train, seed=seed))


def claim(folder: Path, configs: Mapping[str, RunConfig], files: Sequence[Path] = ()) -> None:
    """Write the settings of every run and the arms' files, or check that they are those there.

    Args:
        folder: of the grid.
        configs: name of a run -> its settings.
        files: Python files of arms.
    Raises:
        UserError: the folder holds runs with other settings or another file.
    """
    for name, config in configs.items():
        path = settings_file(folder, name)
        if not path.is_file():
            atomic_write(path, dump_config(config))
        elif load_config(path) != config:
            raise UserError(
                f"{folder}: holds a run with other settings ({path}); choose another --out"
            )
    for file in files:
        code = file.read_text(encoding="utf-8")
        path = folder / "arms" / file.name
        if not path.is_file():
            atomic_write(path, code)
        elif path.read_text(encoding="utf-8") != code:
            raise UserError(
                f"{folder}: holds runs of another version of {file} ({path}); choose another --out"
            )


def run_missing(
    session: Session, results: Results, jobs: Sequence[Job]
) -> Iterator[tuple[Job, RunResult]]:
    """Each job with its result; it is trained unless it is done. A failed run is tried again.

    Raises:
        UserError: a run failed with an error; a diverged one is a result.
    """
    for job in jobs:
        result = results.get(job.arm, job.seed)
        if result is None or result.state == "failed":
            result = session.run(job)
            results.add(result)
            session.callback.run_finished(result, [])
        if result.state == "failed":
            raise UserError(
                f"run {job.arm}: {result.reason}; every run of the grid is needed,"
                " so change its settings"
            )
        yield job, result


def n_parameters(config: RunConfig) -> int:
    """Trainable parameters of the model that these settings build; tied matrices count once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config.model).parameters())


def n_positions(config: RunConfig) -> int:
    """Positions of all rows of a run; short documents do not fill theirs."""
    return config.train.steps * config.train.batch_size * config.model.context_length


def positive_number(key: str, value: Any, example: str) -> float:
    """A number above 0; YAML 1.1 reads 1e12 as a text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise UserError(f"{key}: {value!r} is out of range; give one above 0 such as {example}")
    return number
