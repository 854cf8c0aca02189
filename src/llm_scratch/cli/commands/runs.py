"""`runs list`, `runs show` and `runs diagnose`: training runs and their loss curves.

Tests: tests/cli/test_runs.py, tests/cli/test_diagnosis.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.diagnosis import print_diagnosis
from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import RUNS_FOLDER, find_runs, resolve_model_path, unreadable_runs
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import run_json, shown_run_json
from llm_scratch.cli.run_text import sample_in_words
from llm_scratch.cli.terminal import boxed, console, keeps_lines, print_note, table, truncate
from llm_scratch.config import config_hash
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.formatting import counted, format_count, quote, sanitize, shell_command
from llm_scratch.run_directory import RunInfo, open_run

CURVE_ROWS = 8
"""Evaluations of a run that `runs show` prints, at most."""


@dataclass(frozen=True)
class ListRuns(ReportCommand):
    """List the runs in a folder: size, text, progress and loss, the newest last.

    examples:
      llm-scratch runs list
      llm-scratch runs list my-experiments
    """

    folder: Positional[Annotated[str, option("FOLDER")]] = ""
    """folder of the runs (default: runs/)"""

    def run(self) -> None:
        """Print the table."""
        root = Path(self.folder or RUNS_FOLDER)
        runs = find_runs(root)
        if self.folder and not root.is_dir():
            raise UserError(f"{root}: no such folder; check the path", CHECKPOINT)
        for problem in unreadable_runs(root, [run.path for run in runs]):
            print_note(f"not listed: {problem}")
        if self.json:
            print_json({"folder": root, "runs": [run_json(run) for run in runs]})
            return
        if not runs:
            print(f"no runs in {root}/ yet; make one: {shell_command('train', 'quickstart')}")
            return
        grid = table("run", "params", "source", "step", "loss", "bits/byte", "date")
        for column in grid.columns:
            # the column that is shortened on a narrow terminal
            column.no_wrap = column.header != "source"
        grid.columns[2].justify, grid.columns[2].overflow = "left", "ellipsis"
        for run in runs:
            loss, bits = run.scores.get("val_loss"), run.scores.get("val_bits_per_byte")
            grid.add_row(
                run.path.name,
                format_count(run.config.model.n_params),
                truncate(run.config.data.source, 20),
                _progress(run),
                f"{loss:.3f}" if loss else "-",
                f"{bits:.3f}" if bits else "-",
                time.strftime("%m-%d %H:%M", time.localtime(run.changed)),
            )
        console().print(grid)


def _progress(run: RunInfo) -> str:
    """Steps in the last checkpoint of a run; for a quantized model, its bits."""
    if run.bits != 32:
        return f"{run.bits} bits"
    return f"{run.step:,}" if run.finished or not run.steps else f"{run.step:,}/{run.steps:,}"


@dataclass(frozen=True)
class ShowRun(ReportCommand):
    """Show a run: settings, loss curve and last sample.

    examples:
      llm-scratch runs show quickstart
      llm-scratch runs show runs/bard
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, or a preset (its newest run)"""

    def run(self) -> None:
        """Print settings, loss curve, last sample and next commands."""
        path = resolve_model_path(self.run_)
        run = open_run(path)
        sample = run.samples[-1].text if run.samples else ""
        if self.json:
            print_json(shown_run_json(run, sample))
            return
        screen, model, data = console(), run.config.model, run.config.data
        facts = table("", "", left=2)
        facts.show_header = False
        facts.add_row("run", f"{path}, settings {config_hash(run.config)}")
        facts.add_row(
            "model",
            f"{model.architecture}, {format_count(model.n_params)} parameters:"
            f" {counted(model.n_layers, 'layer')} of {model.emb_dim}",
        )
        facts.add_row(
            "text",
            f"{data.source} by {data.tokenizer}, {model.vocab_size:,} tokens, context"
            f" {model.context_length:,}",
        )
        facts.add_row("steps", _state(run))
        screen.print(facts)
        if _show_curve(run):
            note = (
                f"validation loss on {sample_in_words(run.config)};"
                f" {shell_command('evaluate', path)} reads every token"
            )
            screen.print(f"{note}\n", soft_wrap=keeps_lines(screen))
        if sample:
            screen.print(boxed(sanitize(sample), "last sample", screen.width))
        for words in [] if self.quiet else _next_commands(run):
            screen.print(f"  {shell_command(*words, path)}", soft_wrap=True)


@dataclass(frozen=True)
class DiagnoseRun(ReportCommand):
    """Check the loss curve of RUN for problems: evidence, and what to try.

    examples:
      llm-scratch runs diagnose quickstart
      llm-scratch runs diagnose runs/bard --json
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, or a preset (its newest run)"""

    def run(self) -> None:
        """Print the findings."""
        print_diagnosis(resolve_model_path(self.run_), self.json)


def _state(run: RunInfo) -> str:
    """Progress of a run; for a model that was not trained here, its origin."""
    if run.bits != 32:
        return f"{run.description}; it cannot be trained"
    if run.description:
        return (
            f"{run.description}, not trained here yet;"
            f" to train it: llm-scratch train text PATH --from {quote(run.path)}"
        )
    return f"{_progress(run)} saved" + (
        "" if run.checkpoints else "; the same train command starts it"
    )


def _next_commands(run: RunInfo) -> list[tuple[str, ...]]:
    """Commands for a run, as arguments before its path."""
    if not run.checkpoints:
        return []
    resume = [] if run.finished or run.description else [("train", "--resume")]
    curve = [("evaluate",), ("plot",), ("runs", "diagnose"), ("report",)] if run.has_curve else []
    return [*resume, ("generate",), *curve]


def _show_curve(run: RunInfo) -> bool:
    """Print a few evenly spaced evaluations, the last among them; returns whether there are any."""
    if not run.has_curve:
        return False
    rows = [row for row in run.evaluations if {"train_loss", "val_bits_per_byte"} <= row.keys()]
    stride = max(1, -(-len(rows) // CURVE_ROWS))
    grid = table("step", "tokens", "train loss", "val loss", "bits/byte", left=0)
    for row in rows[::-1][::stride][::-1]:
        grid.add_row(
            f"{row['step']:,}",
            format_count(row["tokens"]),
            *(f"{row[key]:.4f}" for key in ("train_loss", "val_loss", "val_bits_per_byte")),
        )
    screen = console()
    screen.print()
    screen.print(grid)
    screen.print()
    return bool(rows)
