"""What `train` prints at the end: the loss, the plan beside the result, skills, next commands.

Tests: tests/cli/test_train.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llm_scratch.cli.commands.plot import draw
from llm_scratch.cli.optional_step import optional_step
from llm_scratch.cli.run_text import EVERY_TOKEN, sample_in_words
from llm_scratch.cli.terminal import keeps_lines
from llm_scratch.formatting import format_duration, shell_command
from llm_scratch.run_directory import open_run

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.training.trainer import Trainer


def print_summary(run: Trainer, screen: Console, seconds: float, debug: bool = False) -> None:
    """Print the final loss, files and next commands; a failure here is only a warning."""
    from llm_scratch.cli.commands.plan import compare_with_plan

    folder, best = run.folder, run.best
    bits = best / math.log(2) / (run.data.bytes_per_token or math.nan)
    sample = sample_in_words(run.config, len(run.data.val))
    others = "" if sample == EVERY_TOKEN else f"; `llm-scratch evaluate` uses {EVERY_TOKEN}"
    done = (
        f"Done in {format_duration(seconds)}. Best validation loss: {best:.4f} nats per token,"
        f" {bits:.4f} bits per byte, on {sample}{others}."
    )
    screen.print(f"\n{done}", soft_wrap=keeps_lines(screen))
    with optional_step("plan not compared", shell_command("plan", folder), screen, debug):
        if (comparison := compare_with_plan(folder)) is not None:
            screen.print(f"Plan and result: {comparison}", soft_wrap=keeps_lines(screen))
    if run.config.data.is_stories:
        with optional_step(
            "skills not measured", shell_command("evaluate", folder, "--skills"), screen, debug
        ):
            _measure_skills(run, screen)
    prompt = [run.prompt] if run.prompt else []
    config = run.config
    parts = ["--parts", config.parts.rpartition(" ")[0]] if config.different_parts else []
    for label, text in (
        ("model", folder),
        ("loss", folder / "loss-plot.png"),
        *([("samples", folder / "samples.md")] if config.train.sample_every else []),
        ("log", folder / "log.txt"),
        ("next", shell_command("generate", folder, *prompt, *parts)),
        ("", shell_command("evaluate", folder, *parts)),
        ("", shell_command("plot", folder)),
    ):
        line = f"{label:>8}  {text}" if keeps_lines(screen) else f"{label or 'or'}: {text}"
        screen.print(line, soft_wrap=keeps_lines(screen))


def _measure_skills(run: Trainer, screen: Console) -> None:
    """Print the skills of a model trained on stories, save them, and redraw the loss plot.

    They are saved as skills.json; the floor is the entropy of the stories.
    """
    from llm_scratch.cli.skills import print_skills
    from llm_scratch.loading import load

    with screen.status("measuring skills on new stories …"):
        results = print_skills(screen, *load(run.folder, str(run.device)), run.step)
    results.save(run.folder)
    draw([open_run(run.folder)], [run.folder / "loss-plot.png", run.folder / "loss-plot.pdf"])
