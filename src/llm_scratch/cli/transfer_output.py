"""Run learning-rate transfer from the command line, and print the best rate of each width.

Tests: tests/cli/test_transfer.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.experiment_output import experiment_folder, print_findings
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import table

if TYPE_CHECKING:
    from llm_scratch.experiments.runner import RunJobs
    from llm_scratch.experiments.transfer_runner import TransferExperiment, TransferOutcome


def run_and_print(
    experiment: TransferExperiment,
    out: str,
    device: str,
    as_json: bool,
    run_jobs: RunJobs | None = None,
) -> None:
    """Run what is left of the experiment, write its report, and print the best rates."""
    from llm_scratch.cli.experiment_progress import running
    from llm_scratch.experiments.transfer_report import (
        COLUMNS,
        best_rows,
        sentences,
        write_transfer_report,
    )
    from llm_scratch.experiments.transfer_runner import run_transfer
    from llm_scratch.hardware.device import choose_device

    folder = experiment_folder(experiment.name, out, "transfer")
    with running(folder) as progress:
        outcome = run_transfer(
            experiment,
            folder,
            device=choose_device(device).name,
            callback=progress,
            run_jobs=run_jobs,
        )
    page, markdown = write_transfer_report(outcome, folder)
    if as_json:
        print_json(transfer_json(outcome, folder, page, markdown))
        return
    grid = table(*COLUMNS)
    for row in best_rows(outcome):
        grid.add_row(*row)
    print_findings(grid, sentences(outcome), page)


def transfer_json(
    outcome: TransferOutcome, folder: Path, page: Path, markdown: Path
) -> dict[str, Any]:
    """The outcome of `experiment transfer`."""
    from llm_scratch.experiments.transfer_report import sentences

    experiment = outcome.experiment
    arms = [
        {
            "arm": name,
            "verdict": transfer.verdict,
            "factor": transfer.factor,
            "low": transfer.low,
            "high": transfer.high,
            "widths": [
                {
                    "width": width,
                    "best_rate": best.rate,
                    "low": best.low,
                    "high": best.high,
                    "edge": best.edge or None,
                    "losses": losses.mean(-1).tolist(),
                }
                for width, best, losses in zip(
                    experiment.widths, transfer.best, outcome.losses[name], strict=True
                )
            ],
        }
        for name, transfer in outcome.transfers.items()
    ]
    return {
        "folder": folder,
        "rates": list(experiment.rates),
        "seeds": list(experiment.seeds),
        "arms": arms,
        "sentences": sentences(outcome),
        "runs": [vars(result) for result in outcome.results],
        "report": page,
        "markdown": markdown,
    }
