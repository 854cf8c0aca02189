"""Measure a model on the tasks of `evaluate --tasks`, and print the scores.

Tests: tests/cli/test_evaluate_tasks.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.terminal import table
from llm_scratch.errors import UserError
from llm_scratch.extras import install_command

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.evaluation.tasks import TaskScore


def measure_tasks(model: Any, tokenizer: Any, tasks: str, screen: Console) -> list[TaskScore]:
    """The scores of tasks separated by commas: files of questions here, others by the harness.

    Raises:
        UserError: a wrong file, or the harness is missing.
    """
    from llm_scratch.evaluation.tasks import run_task

    names = [name for name in (part.strip() for part in tasks.split(",")) if name]
    ours = [name for name in names if Path(name).suffix == ".jsonl"]
    theirs = [name for name in names if name not in ours]
    if not names:
        raise UserError("--tasks names no task; give a file of questions, such as tasks.jsonl")
    if theirs and importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            f"--tasks {theirs[0]} needs lm-evaluation-harness; install it with"
            f" `{install_command('eval')}`, or give a .jsonl file of questions"
        )
    scores = []
    for name in ours:
        with screen.status(f"measuring {name} …"):
            scores += run_task(model, tokenizer, name)
    if theirs:
        from llm_scratch.evaluation.harness import run_harness

        scores += run_harness(model, tokenizer, theirs)
    return scores


def print_tasks(path: Path, description: str, scores: Sequence[TaskScore], screen: Console) -> None:
    """Print the scores as a table."""
    screen.print(f"{path}, computed on {description}", soft_wrap=True, markup=False)
    grid = table("task", "measure", "value", "questions")
    for column in grid.columns[:2]:
        column.justify = "left"
    for score in scores:
        error = "" if score.stderr is None else f" ± {score.stderr:.4f}"
        grid.add_row(
            score.task, score.metric, f"{score.value:.4f}{error}", f"{score.n_questions:,}"
        )
    screen.print(grid)
