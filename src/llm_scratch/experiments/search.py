"""Tune every arm equally before a comparison: same values, another seed, other validation text.

Tests: tests/experiments/test_search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llm_scratch.config import RunConfig
from llm_scratch.errors import UserError
from llm_scratch.experiments.arms import (
    STEP_SETTINGS,
    ResolvedArm,
    flatten_settings,
    with_budget,
)
from llm_scratch.experiments.experiment import Experiment
from llm_scratch.experiments.results import Results, RunResult

SEARCH_FILE = "search.json"
SEARCH_SEED = 10_001
"""Seed of the runs of a search, which is not a seed of the comparison."""

Settings = tuple[str, ...]


def candidates_of(experiment: Experiment) -> list[Settings]:
    """Every combination of the values of the search."""
    candidates: list[Settings] = [()]
    for name, options in experiment.search:
        candidates = [(*before, f"{name}={option}") for before in candidates for option in options]
    return candidates


def tuned_arms(
    experiment: Experiment, arms: Sequence[ResolvedArm], reference: RunConfig
) -> dict[tuple[str, Settings], RunConfig]:
    """(arm, candidate) -> settings of its run, with the steps that spend the budget.

    Steps for a budget in seconds are the arm's own: what is searched hardly changes the time of a
    step, and timing it would give other steps each time.

    Args:
        experiment: with its search.
        arms: to tune.
        reference: settings of the reference arm before the search, which set the budget.
    Raises:
        UserError: an invalid setting.
    """
    ignored = {"train.seed": "the experiment sets the seeds"}
    if experiment.budget.unit != "none":
        ignored |= dict.fromkeys(STEP_SETTINGS, "the budget sets the steps")
    for name, _ in experiment.search:
        if name in ignored:
            raise UserError(f"search: {name} would be ignored, {ignored[name]}; leave it out")
    tuned = {}
    for arm in arms:
        for settings in candidates_of(experiment):
            try:
                config = arm.config.override(settings)
            except UserError as e:
                raise UserError(f"search: {e}", e.code) from None
            if experiment.budget.unit != "seconds":
                config = with_budget(config, experiment.budget, reference)
            tuned[arm.name, settings] = config
    return tuned


def search(
    experiment: Experiment,
    arms: Sequence[ResolvedArm],
    tuned: Mapping[tuple[str, Settings], RunConfig],
    folder: Path,
    run: Callable[[Iterable[tuple[str, RunConfig]]], Iterator[RunResult]],
    higher_is_better: bool,
) -> list[ResolvedArm]:
    """The arms with the best of their candidates; results so far are in search.json.

    Args:
        experiment: with its search.
        arms: to tune.
        tuned: from `tuned_arms`.
        folder: of the experiment.
        run: trains candidates, given by name and settings, and yields their results.
        higher_is_better: of the metric.
    Raises:
        UserError: no candidate of an arm finished.
    """
    names = {key: " ".join((key[0], *key[1])) for key in tuned}
    results = Results(folder, [(name, SEARCH_SEED) for name in names.values()], SEARCH_FILE)
    missing = [
        (name, tuned[key])
        for key, name in names.items()
        if (result := results.get(name, SEARCH_SEED)) is None or result.state == "failed"
    ]
    for result in run(missing):
        results.add(result)
    best = []
    for arm in arms:
        scores: dict[Settings, float] = {}
        for settings in candidates_of(experiment):
            result = results.get(names[arm.name, settings], SEARCH_SEED)
            if result is not None and result.value is not None:
                scores[settings] = result.value if higher_is_better else -result.value
        if not scores:
            raise UserError(
                f"arm {arm.name}: none of the candidates of the search finished;"
                " search other values"
            )
        chosen = max(scores, key=lambda settings: scores[settings])
        best.append(replace(arm, config=tuned[arm.name, chosen]))
    return best


def edge_warnings(experiment: Experiment, arms: Sequence[ResolvedArm]) -> list[str]:
    """A sentence for each arm whose best value is at the end of the range that was searched."""
    warnings = []
    for name, options in experiment.search:
        numbers = [value for option in options if (value := _number(option)) is not None]
        for arm in arms:
            chosen = _number(flatten_settings(arm.config)[name])
            if len(numbers) == len(options) > 1 and chosen in (min(numbers), max(numbers)):
                warnings.append(
                    f"{arm.name}: the best {name}, {chosen:g},"
                    " is at the edge of the searched values; a better one may be outside."
                )
    return warnings


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
