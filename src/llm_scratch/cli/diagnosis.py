"""The doctor's letter about a run: how it is, what is wrong, by which numbers, and what to try.

Proof: tests/cli/test_diagnosis.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from llm_scratch.cli.folders import RunInfo, load_run_info
from llm_scratch.cli.styles import GOOD, PROBLEM, WARNING
from llm_scratch.cli.terminal import console, keeps_lines, table
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.formatting import format_count, shell_command

STATUS_STYLES = {"problem": ("✗", PROBLEM), "warning": ("!", WARNING), "ok": ("✓", GOOD)}
MIN_CHECKS = 6  # checks that must have had something to say, before a run is called healthy


def print_diagnosis(path: Path, as_json: bool = False) -> None:
    """Print what `diagnose` finds in the run in `path`.

    Raises:
        UserError: no run there (code 4), or one too young to say anything about (code 3). A model that was not trained here is
            not an error: a line says what it is.
    """
    run = load_run_info(path)
    if run is None:
        raise UserError(f"{path} is no run directory (no readable config.yaml); `llm-scratch runs list` shows what there is", CHECKPOINT)
    if reason := run.reason_without_curve:
        _say_without_curve(run, reason, as_json)
        return
    run.check_has_curve("doctor")
    from llm_scratch.evaluation.skill_results import read_skills
    from llm_scratch.reports.diagnosis import diagnose
    from llm_scratch.training.plot import read_metrics

    rows = read_metrics(path)
    found = diagnose(rows, run.config, read_skills(path))
    if not found:
        raise UserError(f"{path} is too young to be judged; let it reach its first evaluation", DATA)
    done = max(row["step"] for row in rows if "step" in row)
    if as_json:
        print(json.dumps({"run": str(path), "step": done, "steps": run.steps, "findings": {k: asdict(v) for k, v in found.items()}}))
        return
    screen, ill = console(), [finding for finding in found.values() if finding.state == "problem"]
    watch = [finding for finding in found.values() if finding.state == "warning"]
    of = f" of {run.steps:,}" if run.steps else ""
    screen.print(
        f"{path}: {run.config.data.source}, {format_count(run.config.model.n_params)} parameters, step {done:,}{of}",
        soft_wrap=keeps_lines(screen),
    )
    screen.print()
    if ill:
        screen.print(Text("It is not well: " + "; ".join(finding.summary for finding in ill) + "."))
    elif watch:
        screen.print(Text("It is well, with something to watch: " + "; ".join(finding.summary for finding in watch) + "."))
    else:
        screen.print("It is healthy." if run.finished and len(found) >= MIN_CHECKS else "Nothing is wrong so far; it is young.")
    grid = table("", "", "", left=3)
    grid.show_header = False
    for state, (mark, colour) in STATUS_STYLES.items():
        for name, finding in found.items():
            if finding.state == state:
                said = Text(f"{finding.summary}\n") + Text(finding.evidence)
                grid.add_row(Text(mark, colour), name, said + Text(f"\n→ {finding.advice}", "bold") if finding.advice else said)
    screen.print(Padding(grid, (1, 0)))
    screen.print(f"see it: {shell_command('plot', path)}", soft_wrap=keeps_lines(screen))


def _say_without_curve(run: RunInfo, reason: str, as_json: bool) -> None:
    """Print what a model is that was not trained here: there is nothing to diagnose."""
    if as_json:
        print(json.dumps({"run": str(run.path), "step": 0, "steps": 0, "description": run.description, "findings": {}}))
        return
    screen = console()
    screen.print(f"{reason}.", soft_wrap=keeps_lines(screen))
    if origin := run.origin_with_curve:
        screen.print(f"the run that it was made from: {shell_command('doctor', origin)}", soft_wrap=keeps_lines(screen))
    screen.print(f"measure the model itself: {shell_command('evaluate', run.path)} --text FILE", soft_wrap=keeps_lines(screen))
