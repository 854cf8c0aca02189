"""Run a grid for a scaling law from the command line, and print the law and its prediction.

Tests: tests/cli/test_scaling.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.experiment_output import experiment_folder, print_findings
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import table

if TYPE_CHECKING:
    from llm_scratch.experiments.runner import RunJobs
    from llm_scratch.experiments.scaling_runner import ScalingExperiment, ScalingOutcome

CONSTANTS = {
    "E": "irreducible",
    "A": "size_coefficient",
    "B": "token_coefficient",
    "a": "size_exponent",
    "b": "token_exponent",
}
"""Constant of the law -> its name in JSON, where keys are lower-case words"""


def run_and_print(
    experiment: ScalingExperiment,
    out: str,
    device: str,
    as_json: bool,
    run_jobs: RunJobs | None = None,
) -> None:
    """Run what is left of a grid, write its report, and print its law."""
    from llm_scratch.cli.experiment_progress import running
    from llm_scratch.experiments.scaling_report import (
        RUN_COLUMNS,
        law_lines,
        run_rows,
        write_scaling_report,
    )
    from llm_scratch.experiments.scaling_runner import run_scaling
    from llm_scratch.hardware.device import choose_device

    folder = experiment_folder(experiment.name, out, "scaling")
    with running(folder) as progress:
        outcome = run_scaling(
            experiment,
            folder,
            device=choose_device(device).name,
            callback=progress,
            run_jobs=run_jobs,
        )
    page, markdown = write_scaling_report(outcome, experiment.name, folder)
    if as_json:
        print_json(scaling_json(outcome, folder) | {"report": page, "markdown": markdown})
        return
    grid = table(*RUN_COLUMNS)
    for row in run_rows(outcome):
        grid.add_row(*row)
    print_findings(grid, law_lines(outcome), page)


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
