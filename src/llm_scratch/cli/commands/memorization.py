"""Whether a model recites its training text. Proof: tests/cli/test_memorization.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.corpus import source_in_words
from llm_scratch.cli.device import load_for_inference
from llm_scratch.cli.flags import ReportCommand
from llm_scratch.cli.folders import RunInfo, load_run_info, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import memorization_json
from llm_scratch.cli.terminal import console, keeps_lines, print_note, table, truncate
from llm_scratch.errors import USAGE, UserError

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus
    from llm_scratch.evaluation.memorization import Overlap

SIGNIFICANT_SIGMAS = 3  # standard errors that two shares must lie apart before the verdict says so


@dataclass(frozen=True)
class Memorization(ReportCommand):
    """Measure how much of its training text the model in RUN writes word for word.

    It continues beginnings of held-out text, and of training text.

    The last row is held-out text: what that has in common with it is natural.

    examples:
      llm-scratch memorization quickstart
      llm-scratch memorization runs/bard/ckpt/step-00001000 --temperature 0
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory (its best checkpoint), a preset (its newest run), or one checkpoint of a run"""
    samples: int = 64
    """texts in each row of the table"""
    max_tokens: int = 200
    """length of each at most"""
    window: int = 20
    """tokens in a row that count as recited"""
    prefix_tokens: int = 8
    """tokens of each text that are given to the model, and not counted"""
    temperature: float = 1.0
    """1 draws as the model says; 0 takes the likeliest token each time"""
    seed: int = 0
    """the same seed, the same beginnings and texts"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Write, look it all up, and print a table."""
        if self.max_tokens < self.window:
            raise UserError(
                f"--max-tokens={self.max_tokens} is shorter than --window={self.window}; give --max-tokens {self.window} or more"
            )
        where, screen = resolve_model_path(self.run_), console()
        run = run_of(where)
        if run is None:
            raise UserError(f"{self.run_} does not say what text it learned from; expected a run directory of `llm-scratch train`", USAGE)
        from llm_scratch.cli.run_text import prepare_text_of

        model, tokenizer, how = load_for_inference(where, self.device, much=True)
        with screen.status("reading the training text …"):
            corpus = prepare_text_of(run, tokenizer)
            found, n_tokens = self._measure(model, corpus)
        longest = max((row for _, _, row in found[:2]), key=lambda row: row.longest)
        longest_text = tokenizer.decode(list(longest.run))
        conclusion = summary([row for _, _, row in found])
        source = source_in_words(run.config.data.source)
        if self.json:
            print_json(memorization_json(where, how, source, n_tokens, self.window, found, longest_text, conclusion))
            return
        grid = table("", "texts", "longest run", f"{self.window}-token runs", "in training text")
        for name, texts, row in found:
            share = f"{row.share:.1%} ± {row.stderr:.1%}" if row.n_windows else "–"
            grid.add_row(name, f"{texts}", f"{row.longest} tokens", f"{row.n_windows:,}", share)
        screen.print(grid)
        read = f"{n_tokens:,}" if n_tokens == len(corpus.train) else f"the first {n_tokens:,} of {len(corpus.train):,}"
        screen.print(f"\ntraining text: {source}, {read} tokens")
        screen.print("longest run the model wrote:", truncate(longest_text, 400), soft_wrap=keeps_lines(screen))
        screen.print(conclusion)
        print_note(f"[{how}]")

    def _measure(self, model: Any, corpus: Corpus) -> tuple[list[tuple[str, int, Overlap]], int]:
        """(name, number of texts, what was found) of each row, and how many tokens were looked through."""
        from llm_scratch.evaluation.memorization import SuffixIndex, continuations, overlap, sample_passages

        start_id, k = getattr(model, "start_id", None), self.prefix_tokens + (getattr(model, "start_id", None) is not None)
        index, n_vocab = SuffixIndex(corpus.train), corpus.tokenizer.n_vocab
        drawn: dict[str, list[Any]] = {}
        for name, ids in (("held-out", corpus.val), ("training", corpus.train)):
            drawn[name] = sample_passages(ids, self.samples, k + self.max_tokens, start_id, self.seed, min_tokens=k + self.window)
        rows: list[tuple[str, Sequence[Any]]] = [
            (f"after {name} text", continuations(model, [p[:k] for p in found], self.max_tokens, self.temperature, self.seed, n_vocab))
            for name, found in drawn.items()
        ]
        rows.append(("held-out text", [passage[k:] for passage in drawn["held-out"]]))
        return [(name, len(texts), overlap(index, texts, self.window)) for name, texts in rows], index.n_tokens


def run_of(where: Path) -> RunInfo | None:
    """The run in a folder, or the one that a checkpoint stands in; None for a model that came alone."""
    return load_run_info(where) or load_run_info(where.resolve().parent.parent)


def summary(rows: Sequence[Overlap]) -> str:
    """One sentence on what a model wrote after held-out and after training beginnings, beside held-out text itself."""
    held_out, training, natural = rows
    for row, when in ((held_out, "even where it has never seen the beginning"), (training, "once it is given a beginning")):
        error = math.hypot(row.stderr, natural.stderr)
        if math.isnan(error):
            return "That is too little text to tell; take more --samples or a smaller --window."
        if row.share - natural.share > SIGNIFICANT_SIGMAS * error:
            return f"It recites, {when}: {row.share:.1%} of what it writes is the training text's; {natural.share:.1%} would be natural."
    longest = max(held_out.longest, training.longest)
    if longest > 2 * natural.longest:
        return f"It recites now and then: its longest run is {longest} tokens, that of held-out text is {natural.longest}."
    return "It does not recite: what it writes has no more in common with its training text than held-out text has."
