"""`evaluate`: loss, perplexity and bits per byte on validation text or another text.

Tests: tests/cli/test_evaluate.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.corpus import source_in_words
from llm_scratch.cli.device import load_model
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.output import is_quiet, print_json
from llm_scratch.cli.own_parts import parts_to_load
from llm_scratch.cli.result_json import evaluation_json, tasks_json
from llm_scratch.cli.run_text import sample_in_words
from llm_scratch.cli.tasks import measure_tasks, print_tasks
from llm_scratch.cli.terminal import console, table
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.run_directory import find_run

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.data.shards import Tokens
    from llm_scratch.evaluation.loss import Loss
    from llm_scratch.evaluation.skill_results import SkillResults
    from llm_scratch.model import LanguageModel

MIN_BAR_COLUMNS = 66
"""Width of rich's progress bar; on a narrower terminal it would cut numbers."""
N_GROUPS = 64
"""Parts into which a text is divided; the spread of their losses gives the standard error."""


@dataclass(frozen=True)
class Evaluate(ReportCommand):
    """Evaluate the model in RUN on its validation text, on another text, or on tasks.

    Bits per byte compares models with different tokenizers; ± is a standard error.

    examples:
      llm-scratch evaluate quickstart --skills
      llm-scratch evaluate runs/bard --text my-play.txt
      llm-scratch evaluate gpt2 --tasks questions.jsonl
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    text: Annotated[str, option("FILE")] = ""
    """a text file to evaluate on"""
    source: Annotated[str, option("SOURCE")] = ""
    """a text source to evaluate on, such as verdict, shakespeare, python-docs, stories:200"""
    skills: Flag = False
    """for a model trained on stories, also measure its skills:
    recalling names, pronoun agreement, counting ...
    """
    tasks: Annotated[str, option("TASKS")] = ""
    """tasks to measure instead of a text, separated by commas: .jsonl files of questions
    (docs/evaluation.md), or names and .yaml files of lm-evaluation-harness
    """
    parts: Annotated[str, option("FILE")] = ""
    """a file of your own parts, for a run that trained with them (docs/course_own_parts.md)"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Evaluate and print a table."""
        with parts_to_load(self.parts):
            self._evaluate()

    def _evaluate(self) -> None:
        if self.text and self.source:
            raise UserError("--text and --source exclude each other; leave one out")
        if self.tasks and (self.text or self.source or self.skills):
            raise UserError("--tasks measures no text; leave out --text, --source and --skills")
        path, screen = resolve_model_path(self.run_), console()
        model, tokenizer, description = load_model(path, self.device, generates=False)
        if self.tasks:
            scores = measure_tasks(model, tokenizer, self.tasks, screen)
            if self.json:
                print_json(tasks_json(path, description, scores))
            else:
                print_tasks(path, description, scores, screen)
            return
        with screen.status("reading the text …"):
            name, ids = self._text(tokenizer, model.start_id)
        loss, error = evaluate_with_stderr(model, tokenizer, ids, screen)
        last = self._scores_while_training(path)
        if self.json:
            if self.skills:
                silent = console()
                silent.quiet = True
                skills = measure_and_print_skills(silent, model, tokenizer)
            else:
                skills = None
            print_json(evaluation_json(path, description, name, loss, error, last, skills))
            return
        self._print_table(path, description, name, loss, error, last, screen)
        if self.skills:
            measure_and_print_skills(screen, model, tokenizer)

    def _scores_while_training(self, where: Path) -> dict[str, float]:
        """The last evaluation of the run, if it read the same text; else none."""
        run = None if self.text or self.source else find_run(where)
        return run.scores if run is not None and {"step", "val_loss"} <= run.scores.keys() else {}

    def _print_table(
        self,
        path: Path,
        description: str,
        name: str,
        loss: Loss,
        error: float,
        last: Mapping[str, float],
        screen: Console,
    ) -> None:
        """Print the result as a table."""
        grid = table("", "")
        grid.show_header = False
        for label, value in (
            ("model", f"{path}"),
            ("computed on", description),
            ("text", f"{name}: {loss.n_tokens:,} tokens, {loss.n_bytes:,} bytes"),
            ("loss", f"{loss.nats_per_token:.4f} nats per token"),
            ("perplexity", f"{loss.perplexity:,.2f}"),
            ("bits per byte", f"{loss.bits_per_byte:.4f} ± {error:.4f}"),
        ):
            grid.add_row(label, value)
        run = find_run(path)
        if last and run is not None:
            grid.add_row(
                "during training",
                f"{last['val_loss']:.4f} nats per token, {last['val_bits_per_byte']:.4f} bits per"
                f" byte at step {last['step']:,.0f}, on {sample_in_words(run.config)} of the run's"
                " validation text",
            )
        grid.columns[1].justify = "left"
        screen.print(grid)

    def _text(self, tokenizer: Any, start_id: int | None) -> tuple[str, Tokens]:
        """The name and the token ids of the text."""
        from llm_scratch.cli.run_text import prepare_text_of
        from llm_scratch.data.corpus import encode_documents
        from llm_scratch.data.sources import read

        if self.text or self.source:
            source = f"file:{self.text}" if self.text else self.source
            return self.text or source, encode_documents(read(source), tokenizer, start_id)
        run = find_run(resolve_model_path(self.run_))
        if run is None:
            raise UserError(
                f"{self.run_}: no validation text is recorded; add --text FILE or --source NAME",
                USAGE,
            )
        return (
            f"validation part of {source_in_words(run.config.data.source)}, every token",
            prepare_text_of(run, tokenizer).val,
        )


def measure_and_print_skills(screen: Console, model: Any, tokenizer: Any) -> SkillResults:
    """Measure the skills of a model trained on stories, print a table and return the results."""
    from llm_scratch.cli.skills import print_skills

    return print_skills(screen, model, tokenizer)


def evaluate_with_stderr(
    model: LanguageModel, tokenizer: Any, ids: Tokens, screen: Console
) -> tuple[Loss, float]:
    """The exact loss over a text, and the standard error of its bits per byte.

    The text is evaluated in parts whose losses add up to that of the whole. The error is that of a
    ratio of sums (Cochran 1977, "Sampling Techniques", section 6.4) with independent parts; NaN for
    a single part.

    Raises:
        UserError: the loss is not finite (exit code 4).
    """
    import numpy as np
    from rich.progress import track

    from llm_scratch.evaluation.loss import Loss, evaluate_tokens
    from llm_scratch.tokenizers.special import end_of_text

    start_id = model.start_id
    pieces = eval_spans(ids, model.cfg.context_length, start_id, end_of_text(tokenizer))
    groups = [
        group
        for group in np.array_split(np.array(pieces), min(N_GROUPS, len(pieces)))
        if len(group)
    ]
    hidden = not screen.is_terminal or screen.width < MIN_BAR_COLUMNS or is_quiet()
    shown = track(groups, "evaluating", console=screen, transient=True, disable=hidden)
    parts = []
    for group in shown:
        part = Loss(0.0, 0, 0)
        for start, end in group:
            span = np.asarray(ids[start:end])
            part += evaluate_tokens(model, span, tokenizer=tokenizer, start_id=start_id)
        parts.append(part)
    loss = sum(parts, Loss(0.0, 0, 0))
    if not math.isfinite(loss.nats):
        raise UserError(
            "the loss on this text is not finite: the model's training diverged, or its weights are"
            " damaged; use an earlier checkpoint, or train again with a lower --train.lr",
            CHECKPOINT,
        )
    n_bytes = [part.n_bytes or 0 for part in parts]
    ratio, n = loss.nats / max(1, sum(n_bytes)), len(parts)
    if n == 1:
        return loss, math.nan
    spread = sum((part.nats - ratio * b) ** 2 for part, b in zip(parts, n_bytes)) * n / (n - 1)
    return loss, math.sqrt(spread) / sum(n_bytes) / math.log(2)


def eval_spans(
    ids: Tokens, context_length: int, start_id: int | None, eot: int | None
) -> list[tuple[int, int]]:
    """(first token, one past the last token) of the spans of a text that are evaluated one by one.

    A span is a multiple of the context, so that there are about `N_GROUPS`. For a model with a
    `start_id`, a span is a document, because the model has hardly seen one begin in the middle. A
    `start_id` that is also the end-of-text token `eot` ends the document before it too. The
    documents of a run's text have only `eot` between them; evaluation replaces the one before.
    """
    import numpy as np

    if start_id is not None:
        tokens = np.asarray(ids)
        starts = np.flatnonzero(tokens == start_id)
        end = int(start_id == eot)
        if not len(starts) and eot is not None and (tokens == eot).any():
            starts = np.union1d([0], np.flatnonzero(tokens == eot))
            end = 1
        ends = [*(starts[1:] + end), len(ids)]
        spans = [(int(a), int(b)) for a, b in zip(starts, ends) if b > a + 1]
        if spans:
            return spans
    size = context_length * max(1, math.ceil(len(ids) / context_length / N_GROUPS))
    return [(start, start + size + 1) for start in range(0, max(1, len(ids) - 1), size)]
