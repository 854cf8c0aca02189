"""Metrics of an experiment: one number from a finished run.

To add one, put a function of the metric's argument into `METRICS` in a Python file of your own, and
name the file in the experiment (`file: mine.py`, `metric: mine`).
Tests: tests/experiments/test_metrics.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_scratch.errors import UserError, unknown
from llm_scratch.run_directory import iter_metrics


@dataclass(frozen=True)
class Metric:
    """How a run is scored.

    Attributes:
        name: in sentences: "bits per byte".
        measure: the value of a finished run directory; None: the run did not reach what is
            measured.
        smallest_effect: the smallest difference that matters, unless the experiment sets it; None:
            it must set it.
        higher_is_better: whether an arm with a larger value is better.
    """

    name: str
    measure: Callable[[Path], float | None]
    smallest_effect: float | None = None
    higher_is_better: bool = False


def bits_per_byte(argument: str) -> Metric:
    """Validation loss of the last evaluation in bits per byte, comparable between tokenizers."""
    if argument:
        raise UserError(f"metric bits_per_byte:{argument}: takes no argument; write bits_per_byte")

    def measure(run: Path) -> float | None:
        values = [
            row["val_bits_per_byte"]
            for row in iter_metrics(run / "metrics.jsonl")
            if "val_bits_per_byte" in row
        ]
        return float(values[-1]) if values else None

    return Metric("bits per byte", measure, smallest_effect=0.005)


def skill(argument: str) -> Metric:
    """Share of right answers of a skill on new stories: skill:count; without a name, of all."""
    from llm_scratch.data.stories import SKILLS

    if argument and argument not in SKILLS:
        raise unknown("skill", argument, SKILLS)

    def measure(run: Path) -> float | None:
        from llm_scratch.evaluation.skills import measure_skills
        from llm_scratch.loading import load

        scores = measure_skills(*load(run))
        chosen = [scores[argument]] if argument else list(scores.values())
        return sum(score.accuracy * score.n for score in chosen) / sum(score.n for score in chosen)

    return Metric(
        f"accuracy of {argument or 'all skills'}",
        measure,
        smallest_effect=0.02,
        higher_is_better=True,
    )


def seconds_to_loss(argument: str) -> Metric:
    """Seconds until the first evaluation with this loss or less: seconds_to_loss:1.8.

    The loss is the validation loss in nats per token.
    """
    try:
        target = float(argument)
    except ValueError:
        target = math.nan
    if not math.isfinite(target):
        raise UserError(
            f"metric seconds_to_loss:{argument}: the loss is missing;"
            " write one such as seconds_to_loss:1.8"
        )

    def measure(run: Path) -> float | None:
        rows = iter_metrics(run / "metrics.jsonl")
        return next(
            (float(row["elapsed"]) for row in rows if row.get("val_loss", math.inf) <= target), None
        )

    return Metric(f"seconds to a loss of {target:g}", measure)


METRICS: dict[str, Callable[[str], Metric]] = {
    "bits_per_byte": bits_per_byte,
    "skill": skill,
    "seconds_to_loss": seconds_to_loss,
}
"""Name of a metric -> function of its argument (what follows the colon)."""


def find_metric(name: str) -> Metric:
    """The metric that an experiment names.

    Raises:
        UserError: no such metric (with the nearest name), or an invalid argument.
    """
    kind, _, argument = name.partition(":")
    if kind not in METRICS:
        raise unknown("metric", kind, METRICS)
    return METRICS[kind](argument)
