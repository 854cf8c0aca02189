"""`memorization`: measure how much of its training text a model repeats verbatim.

Tests: tests/cli/test_memorization.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.corpus import source_in_words
from llm_scratch.cli.device import load_model
from llm_scratch.cli.flags import ReportCommand
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import memorization_json
from llm_scratch.cli.terminal import console, keeps_lines, print_note, table, truncate
from llm_scratch.errors import USAGE, UserError
from llm_scratch.run_directory import run_of

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus
    from llm_scratch.evaluation.memorization import Overlap
    from llm_scratch.model import LanguageModel

SIGNIFICANT_SIGMAS = 3
"""Standard errors by which two shares must differ to be reported as different."""


@dataclass(frozen=True)
class Memorization(ReportCommand):
    """Measure how much of its training text the model in RUN repeats verbatim.

    The model continues prefixes of validation text and of training text.

    The baseline is the overlap of validation text with the training text.

    examples:
      llm-scratch memorization quickstart
      llm-scratch memorization runs/bard/ckpt/step-00001000 --temperature 0
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory (its best checkpoint),
    a preset (its newest run), or one checkpoint of a run
    """
    samples: int = 64
    """number of texts in each row of the table"""
    max_tokens: int = 200
    """maximum number of new tokens of each text"""
    window: int = 20
    """length of a run of tokens that counts as repeated"""
    prefix_tokens: int = 8
    """length of the prefix that the model continues; not counted"""
    temperature: float = 1.0
    """1 samples from the model's distribution; 0 is greedy"""
    seed: int = 0
    """random seed of the prefixes and the texts"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Generate, search the training text, and print a table."""
        if self.max_tokens < self.window:
            raise UserError(
                f"--max-tokens={self.max_tokens} is shorter than --window={self.window};"
                f" give --max-tokens {self.window} or more"
            )
        path, screen = resolve_model_path(self.run_), console()
        run = run_of(path)
        if run is None:
            raise UserError(
                f"{self.run_}: its training text is not recorded;"
                " use a run directory of `llm-scratch train`",
                USAGE,
            )
        from llm_scratch.cli.run_text import prepare_text_of

        model, tokenizer, description = load_model(path, self.device, long_generation=True)
        with screen.status("reading the training text …"):
            corpus = prepare_text_of(run, tokenizer)
            rows, n_tokens = self._measure(model, corpus)
        longest = max((row for _, _, row in rows[:2]), key=lambda row: row.longest)
        longest_text = tokenizer.decode(list(longest.run))
        conclusion = summary([row for _, _, row in rows])
        source = source_in_words(run.config.data.source)
        if self.json:
            print_json(
                memorization_json(
                    path, description, source, n_tokens, self.window, rows, longest_text, conclusion
                )
            )
            return
        grid = table("", "texts", "longest run", f"{self.window}-token runs", "in training text")
        for name, texts, row in rows:
            share = f"{row.share:.1%} ± {row.stderr:.1%}" if row.n_windows else "–"
            grid.add_row(name, f"{texts}", f"{row.longest} tokens", f"{row.n_windows:,}", share)
        screen.print(grid)
        if n_tokens == len(corpus.train):
            read = f"{n_tokens:,}"
        else:
            read = f"the first {n_tokens:,} of {len(corpus.train):,}"
        screen.print(f"\ntraining text: {source}, {read} tokens")
        screen.print(
            "longest repeated run:", truncate(longest_text, 400), soft_wrap=keeps_lines(screen)
        )
        screen.print(conclusion)
        print_note(f"[{description}]")

    def _measure(
        self, model: LanguageModel, corpus: Corpus
    ) -> tuple[list[tuple[str, int, Overlap]], int]:
        """(name, number of texts, overlap) of each row, and the number of tokens searched."""
        from llm_scratch.evaluation.memorization import (
            SuffixIndex,
            continuations,
            overlap,
            sample_passages,
        )

        start_id = model.start_id
        k = self.prefix_tokens + (start_id is not None)
        index, n_vocab = SuffixIndex(corpus.train), corpus.tokenizer.n_vocab
        drawn: dict[str, list[Any]] = {}
        for name, ids in (("validation", corpus.val), ("training", corpus.train)):
            drawn[name] = sample_passages(
                ids,
                self.samples,
                k + self.max_tokens,
                start_id,
                self.seed,
                min_tokens=k + self.window,
            )
        rows: list[tuple[str, Sequence[Any]]] = [
            (
                f"after {name} text",
                continuations(
                    model,
                    [passage[:k] for passage in passages],
                    self.max_tokens,
                    self.temperature,
                    self.seed,
                    n_vocab,
                ),
            )
            for name, passages in drawn.items()
        ]
        rows.append(("validation text", [passage[k:] for passage in drawn["validation"]]))
        return [
            (name, len(texts), overlap(index, texts, self.window)) for name, texts in rows
        ], index.n_tokens


def summary(rows: Sequence[Overlap]) -> str:
    """The result in one sentence.

    Args:
        rows: texts after validation prefixes,
            texts after training prefixes, and validation text itself.
    """
    validation, training, baseline = rows
    for row, when in (
        (validation, "even after prefixes it was not trained on"),
        (training, "after prefixes of its training text"),
    ):
        error = math.hypot(row.stderr, baseline.stderr)
        if math.isnan(error):
            return "Too little text for a verdict; use more --samples or a smaller --window."
        if row.share - baseline.share > SIGNIFICANT_SIGMAS * error:
            return (
                f"The model repeats training text {when}: {row.share:.1%} of its output is in the"
                f" training text; the baseline is {baseline.share:.1%}."
            )
    longest = max(validation.longest, training.longest)
    if longest > 2 * baseline.longest:
        return (
            f"The model repeats training text occasionally: its longest run is {longest} tokens;"
            f" the baseline is {baseline.longest}."
        )
    return (
        "No memorization:"
        " the output overlaps with the training text no more than validation text does."
    )
