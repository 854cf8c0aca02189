"""The diagnosis of a run's loss curve in the terminal or as JSON: problems, evidence, what to try.

Tests: tests/cli/test_diagnosis.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.cli.output import print_json
from llm_scratch.cli.styles import GOOD, PROBLEM, WARNING
from llm_scratch.cli.terminal import console, keeps_lines, print_note, table
from llm_scratch.errors import DATA, UserError
from llm_scratch.formatting import format_count, shell_command
from llm_scratch.run_directory import RunInfo, open_run

if TYPE_CHECKING:
    from rich.table import Table

    from llm_scratch.reports.diagnosis import Finding

STATUS_STYLES = {"problem": ("✗", PROBLEM), "warning": ("!", WARNING), "ok": ("✓", GOOD)}
MIN_CHECKS = 6
"""Checks that must have had enough data before a run is called healthy."""


def print_diagnosis(path: Path, as_json: bool = False) -> None:
    """Print what `diagnose` finds in the run directory `path`.

    A model that was not trained here is not an error: one line describes it.

    Args:
        path: a run directory.
        as_json: print one JSON object instead of a table.
    Raises:
        UserError: not a run directory (code 4), or a run without an evaluation (code 3).
    """
    run = open_run(path)
    if reason := run.reason_without_curve:
        _print_model_without_curve(run, reason, as_json)
        return
    run.check_has_curve("runs", "diagnose")
    from llm_scratch.evaluation.skill_results import read_skills
    from llm_scratch.reports.diagnosis import diagnose

    findings = diagnose(run.metrics, run.config, read_skills(path))
    if not findings:
        raise UserError(f"{path}: no evaluation yet; train at least train.eval_every steps", DATA)
    step = max(row["step"] for row in run.metrics)
    if as_json:
        print_json(
            {"run": path, "step": step, "steps": run.steps, "description": "", "findings": findings}
        )
        return
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    total = f" of {run.steps:,}" if run.steps else ""
    screen.print(
        f"{path}: {run.config.data.source}, {format_count(run.config.model.n_params)} parameters,"
        f" step {step:,}{total}",
        soft_wrap=keeps_lines(screen),
    )
    screen.print()
    screen.print(Text(_summary(findings, run.finished)))
    screen.print(Padding(_table(findings), (1, 0)))
    print_note(f"the curve: {shell_command('plot', path)}", screen)


def _summary(findings: Mapping[str, Finding], finished: bool) -> str:
    """The worst findings in one line."""
    for state, title in (("problem", "Problems"), ("warning", "No problems. Warnings")):
        texts = [finding.summary for finding in findings.values() if finding.state == state]
        if texts:
            return f"{title}: {'; '.join(texts)}."
    if finished and len(findings) >= MIN_CHECKS:
        return "No problems: the run is healthy."
    return "No problems so far; there are few evaluations yet."


def _table(findings: Mapping[str, Finding]) -> Table:
    """A row for each finding, problems first: mark, name, evidence and advice."""
    from rich.text import Text

    grid = table("", "", "", left=3)
    grid.show_header = False
    for state, (mark, color) in STATUS_STYLES.items():
        for name, finding in findings.items():
            if finding.state != state:
                continue
            text = Text(f"{finding.summary}\n") + Text(finding.evidence)
            if finding.advice:
                text += Text(f"\n→ {finding.advice}", "bold")
            grid.add_row(Text(mark, color), name, text)
    return grid


def _print_model_without_curve(run: RunInfo, reason: str, as_json: bool) -> None:
    """Describe a model that was not trained here, which leaves nothing to diagnose."""
    if as_json:
        print_json(
            {"run": run.path, "step": 0, "steps": 0, "description": run.description, "findings": {}}
        )
        return
    screen = console()
    screen.print(f"{reason}.", soft_wrap=keeps_lines(screen))
    if origin := run.origin_with_curve:
        command = shell_command("runs", "diagnose", origin)
        screen.print(f"the run it was made from: {command}", soft_wrap=keeps_lines(screen))
    command = shell_command("evaluate", run.path)
    screen.print(f"measure the model itself: {command} --text FILE", soft_wrap=keeps_lines(screen))
