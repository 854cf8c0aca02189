"""Whether a run's settings can be trained with, before any text is read: names in tables, and settings that exclude each other.

`train` and `train --print-config` both call `validate`, so that one refuses what the other refuses.
Tests: tests/training/test_validate.py.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from llm_scratch.config import RunConfig
from llm_scratch.data.shards import open_shards
from llm_scratch.data.sources import SOURCES, expand_pattern
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.model import MODELS, build
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.locate import open_tokenizer
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import SCHEDULES


def validate(config: RunConfig, run: Path | None = None) -> None:
    """See that a run's settings name things that exist and go together. The text itself is not read.

    Args:
        config: the settings.
        run: its directory; a run under way has its tokenizer there, and needs the file no more that it came from.
    Raises:
        UserError: a name that is in no table (names the nearest); a model that cannot be built or trained; a file that is not there.
    """
    under_way = run is not None and any((run / "ckpt").glob("step-*/manifest.json"))
    _validate_data(config, under_way)
    validate_training(config)
    with torch.device("meta"):
        build(config.model)


def validate_training(config: RunConfig) -> None:
    """The part of `validate` that concerns model and training and not the text.

    Raises:
        UserError: an unknown architecture, optimizer or schedule; a quantized model; settings that the optimizer refuses.
    """
    _known("architecture", config.model.architecture, MODELS)
    _known("optimizer", config.train.optimizer, OPTIMIZERS)
    _known("schedule", config.train.schedule, SCHEDULES)
    if config.model.bits != 32:
        raise UserError(f"a model of {config.model.bits} bits cannot learn; train with model.bits=32, then `llm-scratch quantize`")
    OPTIMIZERS[config.train.optimizer](nn.Linear(1, 1), config.train)


def _validate_data(config: RunConfig, under_way: bool) -> None:
    """A source that exists, without reading it, and a tokenizer that goes with it."""
    source, _, argument = config.data.source.partition(":")
    _known("source", source, SOURCES)
    if not under_way:
        _validate_tokenizer(config)
    if source == "file":
        missing = next((path for path in expand_pattern(argument) if not path.exists()), None)
        if missing is not None:
            raise UserError(f"cannot read {missing}: no such file; expected a text file, a folder or a pattern", DATA)
    if source == "shards":
        open_shards(argument)
        if config.data.split != "tokens":
            raise UserError(f"{config.data.source} holds tokens, and data.split is {config.data.split!r}; set --data.split tokens")


def _validate_tokenizer(config: RunConfig) -> None:
    """A tokenizer's name, or the file that it names and how many tokens that has."""
    name = config.data.tokenizer
    if name in TOKENIZERS:
        return
    if not expand_user(name).exists():
        raise unknown("tokenizer", name, TOKENIZERS, extensible=True)
    if config.data.source.startswith("shards:"):
        raise UserError(f"{config.data.source} has its own tokenizer; leave --data.tokenizer out")
    if (n := open_tokenizer(name).n_vocab) > config.model.vocab_size:
        raise UserError(
            f"the tokenizer {name!r} has {n} tokens, but model.vocab_size={config.model.vocab_size}; set --model.vocab-size {n}"
        )


def _known(kind: str, name: str, table: Collection[str]) -> None:
    if name not in table:
        raise unknown(kind, name, table, extensible=True)
