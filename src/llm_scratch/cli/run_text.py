"""The text of a run for a command that measures: with a warning if it is not what the run was trained on.

Tests: tests/cli/test_changed_runs.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_scratch.cli.terminal import print_line
from llm_scratch.config import RunConfig
from llm_scratch.errors import USAGE, UserError
from llm_scratch.formatting import sanitize
from llm_scratch.run_directory import RunInfo

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus, TextFingerprint
    from llm_scratch.tokenizers import Tokenizer


def prepare_text_of(run: RunInfo, tokenizer: Tokenizer) -> Corpus:
    """The corpus of a run, encoded with its tokenizer; a text that has changed is told on stderr.

    Args:
        run: the run directory.
        tokenizer: of its model.
    Raises:
        UserError: the run records no text; it cannot be read, or not be encoded with this tokenizer.
    """
    if not run.config.data.source:
        raise UserError(f"{run.path} records no text; name one with --text FILE, where the command has it", USAGE)
    from llm_scratch.data.corpus import prepare
    from llm_scratch.training.run_data import text_change

    def check(text: TextFingerprint) -> None:
        if changed := text_change(run.text, text):
            print_line(
                sanitize(
                    f"warning: the text of {run.config.data.source} has changed since {run.path} was trained "
                    f"({changed}): its validation part is not the one that the run was validated on"
                ),
                stderr=True,
            )

    return prepare(run.config, tokenizer, check)


def sample_in_words(run: RunConfig, batches: int | None = None) -> str:
    """How much of the validation text the evaluations of a run read, for `evaluate` reads every token and gives another number.

    Args:
        run: the settings.
        batches: of the whole text, if that is known.
    """
    read = run.train.eval_batches
    if read is None or (batches is not None and read >= batches):
        return "all whole rows"
    return f"{read} batches" if batches is None else f"{read} of {batches:,} batches"
