"""Run a grid for a scaling law from the command line, and print the law and its prediction.

Tests: tests/cli/test_scaling.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.folders import RUNS_FOLDER
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines, table
from llm_scratch.formatting import format_count

if TYPE_CHECKING:
    from llm_scratch.experiments.scaling_runner import ScalingExperiment, ScalingOutcome

CONSTANTS = {
    "E": "irreducible",
    "A": "size_coefficient",
    "B": "token_coefficient",
    "a": "size_exponent",
    "b": "token_exponent",
}
"""Constant of the law -> its name in JSON, where keys are lower-case words"""


def run_and_print(experiment: ScalingExperiment, out: str, device: str, as_json: bool) -> None:
    """Run what is left of a grid, and print its law."""
    from llm_scratch.cli.experiment_progress import running
    from llm_scratch.experiments.scaling_runner import run_scaling
    from llm_scratch.hardware.device import choose_device

    folder = Path(out) if out else RUNS_FOLDER / f"scaling-{experiment.name}"
    screen = console()
    with running(folder) as progress:
        outcome = run_scaling(
            experiment, folder, device=choose_device(device).name, callback=progress
        )
    if as_json:
        print_json(scaling_json(outcome, folder))
        return
    grid = table("run", "parameters", "tokens", "bits per byte", "law")
    for parameters, result in outcome.runs:
        fitted = float(outcome.fit.law.loss(parameters, result.tokens))
        grid.add_row(
            result.arm,
            format_count(parameters),
            format_count(result.tokens),
            f"{result.value:.4f}",
            f"{fitted:.4f}",
        )
    screen.print()
    screen.print(grid)
    screen.print()
    for line in law_lines(outcome):
        screen.print(line, soft_wrap=keeps_lines(screen))


def law_lines(outcome: ScalingOutcome) -> list[str]:
    """The law, its floor, the best sizes and the prediction, in sentences."""
    law, fit = outcome.fit.law, outcome.fit
    low, high = fit.interval("E")
    lines = [
        (
            f"L = {law.E:.4f} + {law.A:.3g} / N^{law.a:.3f} + {law.B:.3g} / D^{law.b:.3f} bits per"
            f" byte, off by {fit.residual:.4f}."
        ),
        f"E is {low:.4f} to {high:.4f} (95 % bootstrap interval).",
    ]
    if not fit.describes:
        lines.append(
            f"The law does not describe these runs: its errors are {fit.residual / fit.spread:.0%}"
            " of the differences between them. Train longer: the first steps of a run follow"
            " another curve."
        )
    if outcome.floor is not None:
        inside = "covers" if low <= outcome.floor <= high else "misses"
        lines.append(
            f"The true E is {outcome.floor:.4f}, the entropy of the text; the interval {inside} it."
        )
    for budget, (by_law, parabola) in outcome.best_sizes.items():
        other = "no minimum among the sizes" if parabola is None else format_count(parabola)
        lines.append(
            f"Best size for {format_count(budget)}FLOP:"
            f" {format_count(by_law)} parameters by the law; by a parabola: {other}."
        )
    prediction = outcome.prediction
    if prediction is not None and prediction.measured is not None:
        inside = "inside" if prediction.low <= prediction.measured <= prediction.high else "outside"
        lines.append(
            f"Predicted for {format_count(prediction.parameters)} parameters and"
            f" {format_count(prediction.tokens)} tokens: {prediction.loss:.4f}"
            f" ({prediction.low:.4f} to {prediction.high:.4f}); measured {prediction.measured:.4f},"
            f" {inside} the interval, off by {prediction.measured - prediction.loss:+.4f}."
        )
    return lines


def scaling_json(outcome: ScalingOutcome, folder: Path) -> dict[str, Any]:
    """The outcome of `experiment scaling`."""
    return {
        "folder": folder,
        "runs": [
            {
                "run": result.arm,
                "parameters": n,
                "tokens": result.tokens,
                "flops": result.flops,
                "bits_per_byte": result.value,
            }
            for n, result in outcome.runs
        ],
        "law": {name: getattr(outcome.fit.law, constant) for constant, name in CONSTANTS.items()},
        "intervals": {name: outcome.fit.interval(constant) for constant, name in CONSTANTS.items()},
        "residual": outcome.fit.residual,
        "describes": outcome.fit.describes,
        "floor": outcome.floor,
        "best_sizes": [
            {"flops": budget, "law": law, "parabola": parabola}
            for budget, (law, parabola) in outcome.best_sizes.items()
        ],
        "prediction": None if outcome.prediction is None else vars(outcome.prediction),
    }
