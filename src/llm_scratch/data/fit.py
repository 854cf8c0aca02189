"""Whether rows of a run's context length fit into its text, and the flags that make them fit where they do not.

Tests: tests/data/test_fit.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

from llm_scratch.config import RunConfig
from llm_scratch.data.shards import Tokens, positions_of
from llm_scratch.errors import DATA, UserError

MIN_CONTEXT = 8  # tokens: a shorter row is not worth proposing


def possible_order(config: RunConfig, train: Tokens, val: Tokens, eot: int | None) -> tuple[RunConfig, str]:
    """The settings with an order of rows that the text allows, and a line about what was changed ("" for nothing).

    A text of one document cannot be rows of one document each, which is the order "documents": its rows become windows side by
    side, the order "shuffled". So do those of a text whose validation part holds no whole document.

    Args:
        config: the run.
        train, val: token ids of its training and validation part, [N] each.
        eot: the token between documents; None for a tokenizer without one.
    """
    reason = _no_document_rows(train, val, eot) if config.data.order == "documents" else ""
    if not reason:
        return config, ""
    note = f"rows: windows side by side (--data.order shuffled) instead of one document each: {reason}"
    return replace(config, data=replace(config.data, order="shuffled")), note


def check_fit(config: RunConfig, train: Tokens, val: Tokens, eot: int | None) -> None:
    """See that both parts of a text hold the rows that a run needs. Arguments as in `possible_order`.

    Raises:
        UserError: they do not; names the settings in the way and values that fit (code 3).
    """
    data, T, B = config.data, config.model.context_length, config.train.batch_size
    if data.order == "documents":
        if reason := _no_document_rows(train, val, eot):
            raise UserError(f"data.order='documents' makes a row of each document, and {reason}; set --data.order shuffled", DATA)
        return
    rows = {"training": B if data.order == "epochs" else 1, "validation": 1}
    for (name, n_rows), ids in zip(rows.items(), (train, val)):
        if len(ids) < n_rows * T + 1:
            batch = f", and order 'epochs' needs a batch of {B}" if n_rows > 1 else ""
            raise UserError(
                f"the {name} part of {data.source!r} has {len(ids):,} tokens; one window takes {T + 1}{batch}: "
                f"use more text{_remedies(config, len(train), len(val))}",
                DATA,
            )


def _no_document_rows(train: Tokens, val: Tokens, eot: int | None) -> str:
    """Why rows cannot be documents; "" where they can. A whole document stands between two ends of text."""
    if eot is None:
        return "its tokenizer has no token for the end of a document"
    n_train, n_val = (max(0, len(positions_of(ids, eot)) - 1) for ids in (train, val))
    if n_train and n_val:
        return ""
    if not n_train and not n_val:
        return "the text is one document"
    part = "validation" if n_train else "training"
    return f"the {part} part holds no whole document; {'a larger' if n_train else 'a smaller'} --data.val-fraction may change that"


def _remedies(config: RunConfig, n_train: int, n_val: int) -> str:
    """The flags that would make a text fit, each by itself, with a value that does."""
    T, B = config.model.context_length, config.train.batch_size
    n_rows = B if config.data.order == "epochs" else 1
    total, remedies = n_train + n_val, []
    context = min((n_train - 1) // n_rows, n_val - 1)
    if context >= MIN_CONTEXT:
        remedies.append(f"--model.context-length {context}")
    most, least = (total - n_rows * T - 1) / total, (T + 1) / total
    fraction = math.ceil(least * 102) / 100 if n_val <= T else math.floor(most * 98) / 100
    if n_rows > 1 and n_val > T and n_train > T:
        remedies.append(f"--train.batch-size {(n_train - 1) // T}")
    elif least < fraction <= most:
        remedies.append(f"--data.val-fraction {fraction:g}")
    return "".join(f", or {remedy}" for remedy in remedies)
