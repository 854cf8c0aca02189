"""Read a run's text for `train` and `plan`, with rows that the text allows.

Tests: tests/cli/test_corpus.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_scratch.cli.terminal import keeps_lines
from llm_scratch.config import RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from llm_scratch.data.corpus import Corpus, TextFingerprint
    from llm_scratch.tokenizers import Tokenizer


def load_corpus(
    config: RunConfig,
    screen: Console,
    tokenizer: Tokenizer | None = None,
    documents: list[str] | None = None,
    check: Callable[[TextFingerprint], None] | None = None,
) -> tuple[RunConfig, Corpus]:
    """Read the text as token ids, and set a row order that the text allows.

    If the order of the settings has to change, a line says so.

    Args:
        tokenizer, documents, check: as `data.corpus.read_corpus` takes them.

    Raises:
        UserError: no text, or one that is too short.
    """
    from llm_scratch.data.corpus import read_corpus
    from llm_scratch.data.fit import check_fit, possible_order
    from llm_scratch.tokenizers.special import end_of_text

    with screen.status(f"reading {config.data.source[:60]} …"):
        corpus = read_corpus(config, tokenizer, documents, check)
    parts = corpus.train, corpus.val, end_of_text(corpus.tokenizer)
    config, note = possible_order(config, *parts)
    if note:
        screen.print(note, soft_wrap=keeps_lines(screen))
    check_fit(config, *parts)
    return config, corpus


def source_in_words(source: str) -> str:
    """A source for a line on a terminal: `26 paths, a.txt to z.txt` for a list of files."""
    from llm_scratch.data.sources import path_list

    kind, _, argument = source.partition(":")
    several = path_list(argument) if kind == "file" else None
    if several is None or len(several) < 3:
        return source
    return f"{len(several)} paths, {several[0]} to {several[-1]}"
