"""The data of a run: its batches, and the text and tokenizer, which stay the same on resume.

A tokenizer trained again on a changed text has other ids, which mean nothing to the weights. So a
checkpoint stores its tokenizer and a hash of the text, and both are used before anything is
encoded.
Tests: tests/training/test_run_data.py, tests/architecture/test_extending_training.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from llm_scratch.config import RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus, TextFingerprint, prepare, start_id
from llm_scratch.data.loader import BatchSource, TokenLoader
from llm_scratch.data.shards import Tokens
from llm_scratch.errors import DATA, UserError
from llm_scratch.model.language_model import as_language_model
from llm_scratch.storage.checkpoint_folders import list_checkpoints
from llm_scratch.storage.manifest import verify
from llm_scratch.tokenizers import Tokenizer, load_tokenizer
from llm_scratch.tokenizers.special import end_of_text

TENSOR_FILES = ("model.safetensors", "optim.safetensors")


class PreparedRun(NamedTuple):
    """Settings, text and model of a run, which a command prepares before training."""

    config: RunConfig
    corpus: Corpus
    model: nn.Module | None = None
    """with its initial weights; None: random ones"""


@dataclass(frozen=True)
class RunData:
    """Batches to train on and to evaluate.

    Attributes:
        train, val: the batches.
        tokenizer: saved in checkpoints, and used for samples; None: neither.
        corpus: the text behind the batches; None for any other data.
        start_id: of a corpus, the token that every row begins with, if any: the model's `start_id`.
    """

    train: BatchSource
    val: BatchSource
    tokenizer: Tokenizer | None = None
    corpus: Corpus | None = None
    start_id: int | None = None

    @classmethod
    def of(
        cls, train: BatchSource, val: BatchSource | None, tokenizer: Tokenizer | None = None
    ) -> RunData:
        """The data of a caller.

        Raises:
            UserError: there is nothing to validate with.
        """
        if val is None:
            raise UserError("data: there is nothing to validate with; pass val= too")
        return cls(train, val, tokenizer)

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes per token of the validation text; None for other data."""
        return None if self.corpus is None else self.corpus.bytes_per_token

    @property
    def text(self) -> TextFingerprint | None:
        """The identity of the text, if known."""
        return None if self.corpus is None else self.corpus.text

    @property
    def first_tokens(self) -> Tokens:
        """Tokens that a sample may begin with, [N]: the training text, or a row of other data."""
        return np.asarray(self.train.batch(0)[0][0]) if self.corpus is None else self.corpus.train


def text_data(
    config: RunConfig,
    corpus: Corpus,
    folder: Path | None = None,
    model: nn.Module | None = None,
) -> RunData:
    """The batches of a text, to train on and to evaluate.

    Args:
        config, corpus: of the run.
        folder: the run directory, which may not exist yet (default: a new run).
        model: with its initial weights (default: random ones).
    """
    start = start_of_rows(config, corpus, folder, model)
    return RunData(*text_loaders(config, corpus, start), corpus.tokenizer, corpus, start)


def start_of_rows(
    config: RunConfig, corpus: Corpus, folder: Path | None, model: nn.Module | None
) -> int | None:
    """The token that every row of a run begins with, or None; arguments as in `text_data`.

    It is that of the run's checkpoints, that of the model it starts from, or that of the order.
    """
    saved = None if folder is None else newest_without_weights(folder)
    if saved is not None and "start_id" in saved[1]:
        return saved[1]["start_id"]
    own = None if model is None else as_language_model(model).start_id
    return start_id(config.data, corpus.tokenizer) if own is None else own


def text_loaders(
    config: RunConfig, corpus: Corpus, start: int | None = None
) -> tuple[TokenLoader, TokenLoader]:
    """Training batches in the order that the settings name, and validation batches in sequence.

    Every validation token but the first is a target, as in `evaluation.loss`, with two exceptions:
    "documents" truncates long documents, and "notebook" leaves out the last, shorter row.

    Args:
        config, corpus: of the run.
        start: `RunData.start_id`.
    """
    T, B, order = config.model.context_length, config.train.batch_size, config.data.order
    eot = end_of_text(corpus.tokenizer)
    train = TokenLoader(corpus.train, T, B, config.train.seed, order, eot, start_id=start)
    if order == "documents":
        return train, TokenLoader(corpus.val, T, B, 0, order, eot, start_id=start)
    short_row = order != "notebook"
    return train, TokenLoader(
        corpus.val, T, B, 0, "sequential", start_id=start, short_row=short_row
    )


def total_steps(cfg: TrainConfig, source: BatchSource) -> int:
    """Steps of the whole run: `steps`, or `epochs` times the batches in an epoch."""
    return cfg.steps if cfg.epochs is None else cfg.epochs * len(source)


def prepare_for_run(config: RunConfig, folder: Path, tokenizer: Tokenizer | None = None) -> Corpus:
    """The corpus of a run, encoded with the tokenizer of its checkpoints.

    If there are checkpoints, the text is checked first.

    Args:
        config: the run's settings.
        folder: the run directory, which may not exist yet.
        tokenizer: to use (default: that of the run's latest checkpoint, or a new one).
    Raises:
        UserError: the text has changed since the last checkpoint (exit code 3); as `prepare`.
    """
    return prepare(
        config, tokenizer or tokenizer_of_run(config, folder), text_check(config, folder)
    )


def tokenizer_of_run(config: RunConfig, folder: Path) -> Tokenizer | None:
    """The tokenizer of a run's latest checkpoint, or None.

    None for a new run, and if the text does not determine the tokenizer.
    """
    saved = newest_without_weights(folder)
    if saved is None or config.data.tokenizer == "gpt2" or config.data.source.startswith("shards:"):
        return None
    # a tokenizer class that is not registered: it is trained again from the same text
    with suppress(UserError):
        return load_tokenizer(saved[0])
    return None


def text_check(config: RunConfig, folder: Path) -> Callable[[TextFingerprint], None] | None:
    """A check for `data.corpus.read_corpus`: the text is that of the latest checkpoint.

    None if there is no checkpoint.
    """
    saved = newest_without_weights(folder)
    if saved is None:
        return None
    return lambda text: check_text(folder, saved[1], text, config.data.source)


def newest_without_weights(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """The latest checkpoint whose small files are valid, and its state; None if there is none."""
    for folder in list_checkpoints(run):
        if verify(folder, TENSOR_FILES) is None:
            return folder, json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return None


def check_text(
    run: Path, state: Mapping[str, Any], text: TextFingerprint | None, source: str
) -> None:
    """Check that a run is resumed on the text that it was trained on.

    Args:
        run: the run directory.
        state: of its checkpoint; without a text hash (older versions) nothing is compared.
        text: what the source has now; None if unknown.
        source: the name of the source.
    Raises:
        UserError: the text has changed (exit code 3).
    """
    if changed := text_change(state.get("text"), text):
        raise UserError(
            f"{run}: the text of {source} has changed since the run's last checkpoint ({changed});"
            f" put the old text back to resume, or start a new run from this one: --from {run}"
            " --out NEW",
            DATA,
        )


def text_change(stored: Mapping[str, Any] | None, text: TextFingerprint | None) -> str:
    """How `text` differs from the text that a run was trained on; "" if it does not, or if unknown.

    Args:
        stored: the `text` of a checkpoint's state.
        text: what the source has now.
    """
    if not stored or text is None or stored.get("sha256") == text.sha256:
        return ""
    stored_text = dict(stored)
    current = asdict(text)
    for name, unit in (("documents", "documents"), ("n_bytes", "bytes")):
        if stored_text.get(name) != current[name]:
            return f"{stored_text.get(name, 0):,} {unit} then, {current[name]:,} now"
    return f"still {current['n_bytes']:,} bytes, but different ones"
