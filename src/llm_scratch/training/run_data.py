"""The data of a run: where its batches come from, and what is known about the text behind them.

Tests: tests/training/test_run_data.py, tests/architecture/test_extending_training.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from llm_scratch.config import RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus, TextFingerprint
from llm_scratch.data.loader import BatchSource, TokenLoader
from llm_scratch.data.shards import Tokens
from llm_scratch.errors import UserError
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.special import end_of_text


class PreparedRun(NamedTuple):
    """What a command makes before it trains on a text."""

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
    """

    train: BatchSource
    val: BatchSource
    tokenizer: Tokenizer | None = None
    corpus: Corpus | None = None

    @classmethod
    def of(cls, train: BatchSource, val: BatchSource | None, tokenizer: Tokenizer | None = None) -> RunData:
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
        """Tokens that a sample may begin with: the training text, or the first row of other data, [N]."""
        return np.asarray(self.train.batch(0)[0][0]) if self.corpus is None else self.corpus.train


def text_data(config: RunConfig, corpus: Corpus) -> RunData:
    """The batches of a text, in the order that the settings name; validation text is read from start to end."""
    T, cfg, order = config.model.context_length, config.train, config.data.order
    eot = end_of_text(corpus.tokenizer)
    train = TokenLoader(corpus.train, T, cfg.batch_size, cfg.seed, order, eot)
    val = TokenLoader(corpus.val, T, cfg.batch_size, 0, order if order == "documents" else "sequential", eot)
    return RunData(train, val, corpus.tokenizer, corpus)


def total_steps(cfg: TrainConfig, source: BatchSource) -> int:
    """Steps of the whole run: `steps`, or `epochs` times the batches in an epoch."""
    return cfg.steps if cfg.epochs is None else cfg.epochs * len(source)
