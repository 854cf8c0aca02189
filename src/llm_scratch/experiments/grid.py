"""Grids of runs: what scaling laws, learning-rate transfer and the budget game have in common.

Tests: tests/experiments/test_grid.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
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
from llm_scratch.experiments.run_folders import settings_file
from llm_scratch.experiments.runner import ExperimentCallback, Job, RunJobs, Session, one_by_one
from llm_scratch.model import build
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.validate import validate


def open_session(
    folder: Path,
    device: str,
    callback: ExperimentCallback | None,
    run_jobs: RunJobs | None = None,
    files: tuple[str, ...] = (),
) -> Session:
    """A session whose runs are measured in bits per byte; arguments as in `Session`."""
    return Session(
        folder,
        find_metric("bits_per_byte"),
        Corpora(),
        device,
        callback or ExperimentCallback(),
        run_jobs or one_by_one,
        files=files,
    )


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
    session: Session, results: Results, jobs: Sequence[Job], *, may_diverge: bool = True
) -> list[RunResult]:
    """The result of each job; it is trained unless it is done. A failed run is tried again.

    Args:
        session: runs the jobs.
        results: what is done, and gets what is not.
        jobs: in the order of the results.
        may_diverge: whether a diverged run is a result like others.
    Raises:
        UserError: a run failed, or diverged where it may not.
    """
    known = [results.get(job.arm, job.seed) for job in jobs]
    missing = [
        job
        for job, result in zip(jobs, known, strict=True)
        if result is None or result.state == "failed"
    ]
    with closing(session.run_jobs(session, missing)) as finished:
        for result in finished:
            results.add(result)
            session.callback.run_finished(result, [])
            _check_usable(result, may_diverge)
    complete = [each for job in jobs if (each := results.get(job.arm, job.seed)) is not None]
    for result in complete:
        _check_usable(result, may_diverge)
    return complete


def _check_usable(result: RunResult, may_diverge: bool) -> None:
    """Reject a result without a value, but for that of a diverged run where it may diverge."""
    if result.state == "failed" or (result.value is None and not may_diverge):
        raise UserError(
            f"run {result.arm}: {result.reason}; every run of the grid is needed,"
            " so change its settings"
        )


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
