"""Read the text of a run, with a warning if it changed since training.

Tests: tests/cli/test_changed_runs.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_scratch.cli.terminal import print_line
from llm_scratch.config import RunConfig
from llm_scratch.errors import USAGE, UserError
from llm_scratch.formatting import counted, sanitize
from llm_scratch.run_directory import RunInfo

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus, TextFingerprint
    from llm_scratch.tokenizers import Tokenizer

EVERY_TOKEN = "every token"
"""what `evaluate` reads, and a run without `train.eval_batches`"""


def prepare_text_of(run: RunInfo, tokenizer: Tokenizer) -> Corpus:
    """Read and encode the text of a run; prints a warning on stderr if the text has changed.

    Args:
        run: the run directory.
        tokenizer: of its model.
    Raises:
        UserError: the run records no text, or it cannot be read or encoded.
    """
    if not run.config.data.source:
        raise UserError(
            f"{run.path}: the run records no text; pass --text FILE, if the command has this flag",
            USAGE,
        )
    from llm_scratch.data.corpus import prepare
    from llm_scratch.training.run_data import text_change

    def check(text: TextFingerprint) -> None:
        if changed := text_change(run.text, text):
            print_line(
                sanitize(
                    f"warning: the text of {run.config.data.source} has changed since {run.path}"
                    f" was trained ({changed}), so the validation text differs too"
                ),
                stderr=True,
            )

    return prepare(run.config, tokenizer, check)


def sample_in_words(run: RunConfig, batches: int | None = None) -> str:
    """How much of the validation text the evaluations of a run read; `evaluate` reads all of it.

    Args:
        run: the settings.
        batches: of the whole validation text (default: unknown).
    """
    read = run.train.eval_batches
    if read is None or (batches is not None and read >= batches):
        if run.data.order == "documents":
            return f"the first {run.model.context_length:,} tokens of every document"
        return "all whole rows" if run.data.order == "notebook" else EVERY_TOKEN
    return (
        counted(read, "batch", "batches") if batches is None else f"{read} of {batches:,} batches"
    )
