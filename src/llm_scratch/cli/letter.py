"""The doctor's letter about a run: how it is, what is wrong, by which numbers, and what to try.

Proof: tests/cli/test_letter.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from llm_scratch.cli.folders import read_run
from llm_scratch.cli.styles import GOOD, PROBLEM, WARNING
from llm_scratch.cli.terminal import command, console, count, keeps_lines, table
from llm_scratch.errors import CHECKPOINT, DATA, UserError

MARKS = {"ill": ("✗", PROBLEM), "watch": ("!", WARNING), "well": ("✓", GOOD)}
ENOUGH = 6  # checks that must have had something to say, before a run is called healthy


def write_letter(path: Path, as_json: bool = False) -> None:
    """Print what `diagnose` finds in the run in `path`.

    Raises:
        UserError: no run there (code 4), or one too young to say anything about (code 3).
    """
    run = read_run(path)
    if run is None:
        raise UserError(f"{path} is no run directory (no readable config.yaml); `llm-scratch runs list` shows what there is", CHECKPOINT)
    run.check_has_curve()
    from llm_scratch.evaluation.doctor import diagnose
    from llm_scratch.training.plot import read_metrics

    rows = read_metrics(path)
    found = diagnose(rows, run.config)
    if not found:
        raise UserError(f"{path} is too young to be judged; let it reach its first evaluation", DATA)
    done = max(row["step"] for row in rows if "step" in row)
    if as_json:
        print(json.dumps({"run": str(path), "step": done, "steps": run.steps, "findings": {k: asdict(v) for k, v in found.items()}}))
        return
    screen, ill = console(), [finding for finding in found.values() if finding.state == "ill"]
    watch = [finding for finding in found.values() if finding.state == "watch"]
    of = f" of {run.steps:,}" if run.steps else ""
    screen.print(
        f"{path}: {run.config.data.source}, {count(run.config.model.n_params)} parameters, step {done:,}{of}", soft_wrap=keeps_lines(screen)
    )
    screen.print()
    if ill:
        screen.print(Text("It is not well: " + "; ".join(finding.what for finding in ill) + "."))
    elif watch:
        screen.print(Text("It is well, with something to watch: " + "; ".join(finding.what for finding in watch) + "."))
    else:
        screen.print("It is healthy." if run.finished and len(found) >= ENOUGH else "Nothing is wrong so far; it is young.")
    grid = table("", "", "", left=3)
    grid.show_header = False
    for state, (mark, colour) in MARKS.items():
        for name, finding in found.items():
            if finding.state == state:
                said = Text(f"{finding.what}\n") + Text(finding.evidence)
                grid.add_row(Text(mark, colour), name, said + Text(f"\n→ {finding.advice}", "bold") if finding.advice else said)
    screen.print(Padding(grid, (1, 0)))
    screen.print(f"see it: {command('plot', path)}", soft_wrap=keeps_lines(screen))
