"""Check a run's settings before any text is read: registered names, excluding settings.

`train` and `train --print-config` both call `validate`, so they reject the same settings.
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
from llm_scratch.model import build
from llm_scratch.storage.checkpoint_folders import list_checkpoints
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.locate import open_tokenizer
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import SCHEDULES


def validate(config: RunConfig, run: Path | None = None, reads_text: bool = True) -> None:
    """Check that a run's settings name things that exist and fit together. The text is not read.

    Args:
        config: the settings.
        run: its directory; a run with checkpoints has its tokenizer there and no longer needs the
            file that it came from.
        reads_text: whether the text that the settings name will be read.
    Raises:
        UserError: an unregistered name (with the nearest one); a model that cannot be built or
            trained; a missing file.
    """
    if reads_text:
        has_checkpoint = run is not None and any((run / "ckpt").glob("step-*/manifest.json"))
        _validate_data(config, has_checkpoint)
    _check_registered("optimizer", config.train.optimizer, OPTIMIZERS)
    _check_registered("schedule", config.train.schedule, SCHEDULES)
    with torch.device("meta"):
        model = build(config.model)
    # an optimizer may need what only some models have, such as muP's the width
    OPTIMIZERS[config.train.optimizer](model, config.train)


def check_initial_model(config: RunConfig, run: Path, model: nn.Module | None) -> None:
    """Check that a new run from a model has its weights, which are loaded elsewhere.

    Raises:
        UserError: it would begin with random weights.
    """
    if config.init_from and model is None and not list_checkpoints(run):
        raise UserError(
            f"init_from={config.init_from!r}: train() does not load a model; pass model= and"
            " corpus=, made by loading.load_for_training and data.corpus.prepare, or use"
            " `llm-scratch train --from`"
        )


def _validate_data(config: RunConfig, has_checkpoint: bool) -> None:
    """Check that the source exists, without reading it, and the tokenizer."""
    source, _, argument = config.data.source.partition(":")
    _check_registered("source", source, SOURCES)
    if not has_checkpoint:
        _validate_tokenizer(config)
    if source == "file":
        missing = next((path for path in expand_pattern(argument) if not path.exists()), None)
        if missing is not None:
            raise UserError(
                f"cannot read {missing}: no such file; expected a text file, a folder or a pattern",
                DATA,
            )
    if source == "shards":
        open_shards(argument)
        if config.data.split != "tokens":
            raise UserError(
                f"{config.data.source} holds tokens, and data.split is {config.data.split!r};"
                " set --data.split tokens"
            )


def _validate_tokenizer(config: RunConfig) -> None:
    """Check that a tokenizer is registered, or a file whose vocabulary fits the model."""
    name = config.data.tokenizer
    if name in TOKENIZERS:
        return
    if not expand_user(name).exists():
        raise unknown("tokenizer", name, TOKENIZERS, extensible=True)
    if config.data.source.startswith("shards:"):
        raise UserError(f"{config.data.source} has its own tokenizer; leave --data.tokenizer out")
    if (n := open_tokenizer(name).n_vocab) > config.model.vocab_size:
        raise UserError(
            f"the tokenizer {name!r} has {n} tokens,"
            f" but model.vocab_size={config.model.vocab_size}; set --model.vocab-size {n}"
        )


def _check_registered(kind: str, name: str, table: Collection[str]) -> None:
    if name not in table:
        raise unknown(kind, name, table, extensible=True)
