"""Check that rows of a run's context length fit its text, and propose flags that make them fit.

Tests: tests/data/test_fit.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

from llm_scratch.config import RunConfig
from llm_scratch.data.shards import Tokens, positions_of
from llm_scratch.errors import DATA, UserError

MIN_CONTEXT = 8  # tokens; shorter rows are not proposed


def possible_order(
    config: RunConfig, train: Tokens, val: Tokens, eot: int | None
) -> tuple[RunConfig, str]:
    """Replace order "documents" by "shuffled" where the text has no rows of one document each.

    That is a text of one document, or one whose training or validation part holds no whole
    document. Returns the config and a note about the change ("" for none).

    Args:
        config: the run.
        train, val: token ids of the training and validation part, [N] each.
        eot: the token between documents; None for a tokenizer without one.
    """
    reason = _no_document_rows(train, val, eot) if config.data.order == "documents" else ""
    if not reason:
        return config, ""
    note = f"rows: adjacent windows (--data.order shuffled) instead of one document each: {reason}"
    return replace(config, data=replace(config.data, order="shuffled")), note


def check_fit(config: RunConfig, train: Tokens, val: Tokens, eot: int | None) -> None:
    """Check that both parts of a text hold the rows a run needs. Arguments as in `possible_order`.

    Raises:
        UserError: too few tokens or documents; proposes settings that fit (code 3).
    """
    data = config.data
    T = config.model.context_length
    B = config.train.batch_size
    if data.order == "documents":
        reason = _no_document_rows(train, val, eot)
        if reason:
            raise UserError(
                f"data.order='documents' makes a row of each document, but {reason};"
                " set --data.order shuffled",
                DATA,
            )
        return
    rows = {"training": B if data.order == "notebook" else 1, "validation": 1}
    for (name, n_rows), ids in zip(rows.items(), (train, val)):
        if len(ids) < n_rows * T + 1:
            batch = f", and order 'notebook' needs a batch of {B}" if n_rows > 1 else ""
            raise UserError(
                f"the {name} part of {data.source!r} has {len(ids):,} tokens, "
                f"one window takes {T + 1}{batch}; "
                f"use more text{_remedies(config, len(train), len(val))}",
                DATA,
            )


def _no_document_rows(train: Tokens, val: Tokens, eot: int | None) -> str:
    """Why rows cannot be documents, or "".

    A whole document has an end-of-text token on both sides.
    """
    if eot is None:
        return "its tokenizer has no end-of-text token"
    n_train, n_val = (max(0, len(positions_of(ids, eot)) - 1) for ids in (train, val))
    if n_train and n_val:
        return ""
    if not n_train and not n_val:
        return "the text is one document"
    part = "validation" if n_train else "training"
    change = "a larger" if n_train else "a smaller"
    return f"the {part} part holds no whole document ({change} --data.val-fraction may help)"


def _remedies(config: RunConfig, n_train: int, n_val: int) -> str:
    """Flags with values, each of which alone makes the text fit; starts with ", or "."""
    T = config.model.context_length
    B = config.train.batch_size
    n_rows = B if config.data.order == "notebook" else 1
    total = n_train + n_val
    remedies = []
    context = min((n_train - 1) // n_rows, n_val - 1)
    if context >= MIN_CONTEXT:
        remedies.append(f"--model.context-length {context}")
    max_fraction = (total - n_rows * T - 1) / total
    min_fraction = (T + 1) / total
    if n_val <= T:
        fraction = math.ceil(min_fraction * 102) / 100
    else:
        fraction = math.floor(max_fraction * 98) / 100
    if n_rows > 1 and n_val > T and n_train > T:
        remedies.append(f"--train.batch-size {(n_train - 1) // T}")
    elif min_fraction < fraction <= max_fraction:
        remedies.append(f"--data.val-fraction {fraction:g}")
    return "".join(f", or {remedy}" for remedy in remedies)
