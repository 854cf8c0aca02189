"""Collect the contents of an experiment's report from its folder.

Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from llm_scratch.config import load_config
from llm_scratch.experiments.arms import ResolvedArm, differing_settings
from llm_scratch.experiments.charts import ArmCurve, SeedValues
from llm_scratch.experiments.experiment import Experiment
from llm_scratch.experiments.metrics import Metric
from llm_scratch.experiments.results import RunResult, read_results
from llm_scratch.experiments.run_folders import run_folder, settings_file
from llm_scratch.experiments.runner import load_experiment, prepare, run_arm_files
from llm_scratch.experiments.search import edge_warnings
from llm_scratch.experiments.verdict import Comparison, compare_arms
from llm_scratch.reports.plot import series
from llm_scratch.run_directory import iter_metrics


@dataclass(frozen=True)
class ArmSummary:
    """An arm in numbers: its finished runs, and the mean cost of a run."""

    arm: str
    values: dict[int, float]
    n_runs: int
    n_failed: int
    tokens: float
    flops: float
    seconds: float

    @property
    def mean(self) -> float | None:
        """Mean of the metric; None without a finished run."""
        return mean(self.values.values()) if self.values else None

    @property
    def sd(self) -> float | None:
        """Standard deviation of the metric over seeds; None below two finished runs."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class ExperimentReport:
    """The contents of the page.

    Attributes:
        folder: of the experiment.
        experiment: what was run.
        metric: of the values.
        results: of all runs.
        comparisons: of each arm with the reference.
        arms: in the order of the experiment.
        curves: of the arms with at least two evaluations.
        differing: setting -> its value in each arm, where they differ.
        search_warnings: about the values that the search chose.
        environment: of the first run.
    """

    folder: Path
    experiment: Experiment
    metric: Metric
    results: Sequence[RunResult]
    comparisons: Sequence[Comparison]
    arms: Sequence[ArmSummary]
    curves: Sequence[ArmCurve]
    differing: dict[str, list[Any]]
    search_warnings: list[str]
    environment: dict[str, Any]

    @property
    def n_planned(self) -> int:
        """Runs of the whole experiment."""
        return len(self.experiment.arms) * len(self.experiment.seeds)

    @property
    def seed_values(self) -> list[SeedValues]:
        """The values of each arm, for the chart."""
        return [SeedValues(arm.arm, arm.values) for arm in self.arms]


def collect(folder: str | Path, metric_name: str = "") -> ExperimentReport:
    """Read the folder of an experiment.

    Args:
        folder: of the experiment.
        metric_name: measure the finished runs by this metric, such as "skill:count", and judge its
            own smallest effect (default: the values of the experiment's metric).
    Raises:
        UserError: there is no experiment, or it has no results yet; an invalid metric.
    """
    folder = Path(folder)
    experiment = load_experiment(folder)
    if metric_name:
        experiment = replace(experiment, metric=metric_name, smallest_effect=None)
    metric = prepare(experiment)
    run_arm_files(experiment)
    results = read_results(folder)
    if metric_name:
        results = [_measured(result, folder, metric) for result in results]
    names = [arm.name for arm in experiment.arms]
    configs = [ResolvedArm(name, load_config(settings_file(folder, name))) for name in names]
    curves = [
        curve for name in names if (curve := _curve(folder, name, experiment.seeds)) is not None
    ]
    return ExperimentReport(
        folder=folder,
        experiment=experiment,
        metric=metric,
        results=results,
        comparisons=compare_arms(experiment, metric, results),
        arms=[_summary(name, results) for name in names],
        curves=curves,
        differing=differing_settings(configs),
        search_warnings=edge_warnings(experiment, configs),
        environment=first_environment(folder),
    )


def _measured(result: RunResult, folder: Path, metric: Metric) -> RunResult:
    """The result with the value of another metric, if the run finished."""
    if result.state != "finished":
        return result
    value = metric.measure(run_folder(folder, result.arm, result.seed))
    if value is None:
        return replace(result, state="failed", value=None, reason=f"the run has no {metric.name}")
    return replace(result, value=value)


def _summary(name: str, results: Sequence[RunResult]) -> ArmSummary:
    runs = [result for result in results if result.arm == name]
    values = {result.seed: result.value for result in runs if result.value is not None}
    finished = [result for result in runs if result.state == "finished"]
    costs = [
        mean(getattr(result, field) for result in finished) if values else 0.0
        for field in ("tokens", "flops", "seconds")
    ]
    return ArmSummary(
        name, values, len(runs), sum(result.state != "finished" for result in runs), *costs
    )


def _curve(folder: Path, arm: str, seeds: Sequence[int]) -> ArmCurve | None:
    """The curve of an arm at the evaluations that all its runs have; None below two."""
    runs = []
    for seed in seeds:
        points = series(
            list(iter_metrics(run_folder(folder, arm, seed) / "metrics.jsonl")),
            "tokens",
            "val_bits_per_byte",
        )
        if points.shape[1] > 1:
            runs.append(points)
    if not runs:
        return None
    n = min(points.shape[1] for points in runs)
    tokens, values = np.stack([points[:, :n] for points in runs], axis=1)  # [runs, n] each
    return ArmCurve(arm, tokens.mean(0), values.mean(0), values.min(0), values.max(0))


def first_environment(folder: Path, runs: str = "seed-*/*") -> dict[str, Any]:
    """The env.json of the first run; {} if there is none.

    Args:
        folder: of the experiment.
        runs: a pattern for its run directories.
    """
    for path in sorted(folder.glob(f"{runs}/env.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(values, dict):
            return values
    return {}
