"""Plan an experiment: runs, time, memory, and the smallest difference that its seeds can show.

Tests: tests/experiments/test_plan.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from llm_scratch.experiments.arms import Corpora, resolve_arms
from llm_scratch.experiments.experiment import Experiment
from llm_scratch.experiments.metrics import Metric
from llm_scratch.experiments.results import FILE, read_results
from llm_scratch.experiments.runner import load_experiment, prepare
from llm_scratch.experiments.search import candidates_of
from llm_scratch.experiments.statistics import POWER, detectable_effect, sd_range, seeds_needed
from llm_scratch.experiments.verdict import compare_arms
from llm_scratch.planning.plan import Plan, make_plan

TIMING_SECONDS = 1.0
"""for each arm"""


@dataclass(frozen=True)
class Noise:
    """How much the difference of two arms varies from seed to seed.

    Attributes:
        sd: standard deviation of the differences.
        n: differences that it was estimated from, each arm's own mean taken off.
        degrees: of freedom of the estimate.
        source: the folder of the experiment that it comes from.
    """

    sd: float
    n: int
    degrees: int
    source: Path

    @property
    def range(self) -> tuple[float, float]:
        """The interval that has the true standard deviation with 80 % probability."""
        return sd_range(self.sd, self.degrees + 1)


@dataclass(frozen=True)
class ExperimentPlan:
    """Predicted time and memory of an experiment, and the smallest difference it can show.

    Attributes:
        plans: the plan of a run of each arm, in the order of the experiment.
        n_runs: of the comparison; `n_done` of them are finished, `n_search` runs come before.
        n_seeds: of the experiment.
        n_arms: compared with the reference.
        margin: the smallest difference that matters.
        unit: name of the metric.
        noise: None if no earlier runs are known.
    """

    plans: dict[str, Plan]
    n_runs: int
    n_done: int
    n_search: int
    n_seeds: int
    n_arms: int
    margin: float
    unit: str
    noise: Noise | None

    @property
    def seconds(self) -> float:
        """Time of the runs that are left."""
        each = sum(plan.seconds for plan in self.plans.values()) / len(self.plans)
        return each * (self.n_runs - self.n_done + self.n_search)

    @property
    def peak_memory(self) -> int:
        """The largest memory of a run, in bytes."""
        return max(plan.peak_memory for plan in self.plans.values())

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that the seeds show with 80 % probability, or None."""
        if self.noise is None:
            return None
        return detectable_effect(self.noise.sd, self.n_seeds, self.n_arms)

    @property
    def n_needed(self) -> int | None:
        """Seeds that show the smallest difference that matters with 80 % probability, or None."""
        return None if self.noise is None else seeds_needed(self.margin, self.noise.sd, self.n_arms)

    @property
    def promise(self) -> str:
        """What the seeds can show, in plain words."""
        if self.noise is None or self.detectable is None:
            return (
                f"How small a difference {self.n_seeds} seeds can show is unknown before any run;"
                " --pilot runs two seeds of the experiment, and --noise-from takes the noise of an"
                " earlier one."
            )
        low, high = (detectable_effect(sd, self.n_seeds, self.n_arms) for sd in self.noise.range)
        if self.n_needed:
            enough = f"the smallest that matters, {self.margin:g}, takes {self.n_needed:,}"
        else:
            enough = "more than 100,000 are needed"
        return (
            f"{self.n_seeds} seeds show a difference of {self.detectable:.2g} {self.unit} with"
            f" {100 * POWER:.0f} % probability ({low:.2g} to {high:.2g}, with the noise of"
            f" {self.noise.n} differences); {enough}."
        )


def plan_experiment(
    experiment: Experiment,
    folder: Path | None = None,
    *,
    device: str = "cpu",
    noise_from: Path | None = None,
) -> ExperimentPlan:
    """Plan an experiment without training.

    Args:
        experiment: what will be run.
        folder: of the experiment; its finished runs are not planned again, and give the noise.
        device: "cpu", "cuda" or "mps".
        noise_from: the folder of an earlier experiment, whose noise is taken.
    Raises:
        UserError: an invalid setting, as the run would raise it.
    """
    metric = prepare(experiment)
    corpora = Corpora(halve_validation=bool(experiment.search))
    arms = [
        replace(arm, config=corpora.fit(arm.config)) for arm in resolve_arms(experiment, device)
    ]
    plans = {
        arm.name: make_plan(
            arm.config, torch.device(device), corpora.of(arm.config), TIMING_SECONDS
        )
        for arm in arms
    }
    done = read_results(folder) if folder is not None and (folder / FILE).is_file() else []
    place = noise_from or (folder if done else None)
    return ExperimentPlan(
        plans=plans,
        n_runs=len(arms) * len(experiment.seeds),
        n_done=sum(result.state != "failed" for result in done),
        n_search=len(arms) * len(candidates_of(experiment)) if experiment.search else 0,
        n_seeds=len(experiment.seeds),
        n_arms=len(arms) - 1,
        margin=metric.smallest_effect or 0.0,
        unit=metric.name,
        noise=None if place is None else estimate_noise(place),
    )


def estimate_noise(folder: Path) -> Noise | None:
    """The noise of the differences in an experiment's folder, over all arms; None below two pairs.

    Raises:
        UserError: there is no experiment, or it has no results.
    """
    experiment = load_experiment(folder)
    metric: Metric = prepare(experiment)
    comparisons = compare_arms(experiment, metric, read_results(folder))
    usable = [comparison for comparison in comparisons if comparison.sd is not None]
    degrees = sum(comparison.n_seeds - 1 for comparison in usable)
    if not degrees:
        return None
    squares = sum((comparison.n_seeds - 1) * (comparison.sd or 0.0) ** 2 for comparison in usable)
    return Noise(
        math.sqrt(squares / degrees),
        sum(comparison.n_seeds for comparison in usable),
        degrees,
        folder,
    )
