"""Run or plan an experiment from the command line, and print the result.

Tests: tests/cli/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.folders import RUNS_FOLDER
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines, table
from llm_scratch.formatting import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from rich.table import Table

    from llm_scratch.experiments.contents import ExperimentReport
    from llm_scratch.experiments.experiment import Experiment
    from llm_scratch.experiments.plan import ExperimentPlan
    from llm_scratch.experiments.runner import RunJobs
    from llm_scratch.experiments.verdict import Comparison


def experiment_folder(name: str, out: str, kind: str = "experiment") -> Path:
    """The folder of an experiment: `out`, or one in runs/ that the same command finds again."""
    from llm_scratch.experiments.run_folders import folder_name

    return Path(out) if out else RUNS_FOLDER / f"{kind}-{folder_name(name)}"


def run_and_print(
    experiment: Experiment,
    out: str,
    device: str,
    as_json: bool,
    run_jobs: RunJobs | None = None,
) -> None:
    """Run what is left of an experiment, write its report, and print the verdicts.

    Args:
        experiment: what to run.
        out: its folder, or "".
        device: "auto", "cpu", "cuda" or "mps".
        as_json: print the outcome as JSON.
        run_jobs: as in `run_experiment`.
    """
    folder = experiment_folder(experiment.name, out)
    _run(experiment, folder, device, run_jobs=run_jobs)
    report_and_print(folder, as_json)


def _run(
    experiment: Experiment,
    folder: Path,
    device: str,
    max_seeds: int | None = None,
    run_jobs: RunJobs | None = None,
) -> None:
    """Run what is left, with a progress display; with `max_seeds`, a pilot."""
    from llm_scratch.cli.experiment_progress import running
    from llm_scratch.experiments.runner import run_experiment
    from llm_scratch.hardware.device import choose_device

    with running(folder) as progress:
        run_experiment(
            experiment,
            folder,
            device=choose_device(device).name,
            callback=progress,
            max_seeds=max_seeds,
            run_jobs=run_jobs,
        )


def report_and_print(folder: Path, as_json: bool, metric: str = "") -> None:
    """Write the report of an experiment, and print its verdicts, values and paths."""
    from llm_scratch.experiments.contents import collect
    from llm_scratch.experiments.report import save_report
    from llm_scratch.experiments.verdict import format_value

    report = collect(folder, metric)
    page, markdown = save_report(report)
    if as_json:
        print_json(experiment_json(report, page, markdown))
        return
    grid = table("arm", report.metric.name, "SD", "runs", "not finished", "tokens", "time")
    for arm in report.arms:
        value, sd = (
            "–" if number is None else format_value(number) for number in (arm.mean, arm.sd)
        )
        grid.add_row(
            arm.arm,
            value,
            sd,
            str(arm.n_runs),
            str(arm.n_failed),
            format_count(arm.tokens),
            format_duration(arm.seconds),
        )
    print_findings(grid, (comparison.sentence for comparison in report.comparisons), page)


def print_findings(grid: Table, sentences: Iterable[str], page: Path) -> None:
    """Print the table of an experiment, its sentences, and the path of its report."""
    screen = console()
    screen.print()
    screen.print(grid)
    screen.print()
    for line in (*sentences, f"\nreport: {page}"):
        screen.print(line, soft_wrap=keeps_lines(screen))


def plan_and_print(
    experiment: Experiment, out: str, device: str, pilot: bool, noise_from: str, as_json: bool
) -> None:
    """Plan an experiment and print the plan; `pilot` trains its first two seeds before."""
    from llm_scratch.experiments.plan import plan_experiment
    from llm_scratch.hardware.device import choose_device

    folder = experiment_folder(experiment.name, out)
    device_name = choose_device(device).name
    if pilot:
        _run(experiment, folder, device, max_seeds=2)
    plan = plan_experiment(
        experiment, folder, device=device_name, noise_from=Path(noise_from) if noise_from else None
    )
    if as_json:
        print_json(plan_json(plan))
        return
    screen = console()
    grid = table("arm", "parameters", "steps", "tokens", "FLOPs", "time of a run", "memory")
    for name, run in plan.plans.items():
        flops = format_count(run.flops_per_token * run.tokens)
        grid.add_row(
            name,
            format_count(run.parameters),
            f"{run.steps:,}",
            format_count(run.tokens),
            flops,
            format_duration(run.seconds),
            format_bytes(run.peak_memory),
        )
    screen.print(grid)
    done = f", {plan.n_done} of them done" if plan.n_done else ""
    searched = f" after {plan.n_search} runs of the search" if plan.n_search else ""
    lines = [
        (
            f"{plan.n_runs} runs{done}{searched}, one after the other:"
            f" {format_duration(plan.seconds)}."
        ),
        plan.promise,
    ]
    for line in ("", *lines):
        screen.print(line, soft_wrap=keeps_lines(screen))


def experiment_json(report: ExperimentReport, page: Path, markdown: Path) -> dict[str, Any]:
    """The outcome of an experiment."""
    return {
        "experiment": report.experiment.name,
        "folder": report.folder,
        "metric": report.metric.name,
        "higher_is_better": report.metric.higher_is_better,
        "smallest_effect": report.metric.smallest_effect,
        "seeds": list(report.experiment.seeds),
        "comparisons": [comparison_json(comparison) for comparison in report.comparisons],
        "runs": [vars(result) for result in report.results],
        "report": page,
        "markdown": markdown,
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """An arm compared with the reference."""
    estimate = comparison.estimate
    return {
        "arm": comparison.arm,
        "reference": comparison.reference,
        "verdict": comparison.verdict,
        "sentence": comparison.sentence,
        "pairs": comparison.n_seeds,
        "not_finished": comparison.n_failed + comparison.n_failed_reference,
        "mean_difference": comparison.mean,
        "sd_of_differences": comparison.sd,
        "low": estimate.low if estimate else None,
        "high": estimate.high if estimate else None,
        "p": estimate.p if estimate else None,
        "p_equivalent": estimate.p_equivalent if estimate else None,
        "seeds_needed": comparison.n_needed,
    }


def plan_json(plan: ExperimentPlan) -> dict[str, Any]:
    """Predicted time and memory of an experiment, and the smallest difference it can show."""
    arms = [
        {
            "arm": name,
            "parameters": run.parameters,
            "steps": run.steps,
            "tokens": run.tokens,
            "flops": run.flops_per_token * run.tokens,
            "seconds": run.seconds,
            "peak_memory_bytes": run.peak_memory,
        }
        for name, run in plan.plans.items()
    ]
    return {
        "arms": arms,
        "runs": plan.n_runs,
        "runs_done": plan.n_done,
        "search_runs": plan.n_search,
        "seconds": plan.seconds,
        "peak_memory_bytes": plan.peak_memory,
        "smallest_effect": plan.margin,
        "sd_of_differences": plan.noise.sd if plan.noise else None,
        "detectable_effect": plan.detectable,
        "seeds_needed": plan.n_needed,
        "summary": plan.promise,
    }
