"""Rows that do not fit a text: the changed order, and the flags in the error."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig, from_dict
from llm_scratch.data.fit import check_fit, possible_order
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import DATA, UserError

EOT = 0


def settings(context_length=16, batch_size=4, **data):
    model = GPTConfig(
        vocab_size=60, context_length=context_length, emb_dim=12, n_heads=3, n_layers=1
    )
    return RunConfig(model, DataConfig(source="mine", **data), TrainConfig(batch_size=batch_size))


def documents(*lengths):
    """Return ids of documents of these lengths.

    An end of text comes before each and after the last.
    """
    return np.concatenate([*(np.r_[EOT, np.ones(n, int)] for n in lengths), [EOT]])


@pytest.mark.parametrize(
    ("train", "val", "reason"),
    [
        (np.ones(100, int), np.ones(50, int), "the text is one document"),
        (
            documents(30, 30),
            documents(40)[1:],
            "the validation part holds no whole document (a larger --data.val-fraction",
        ),
        (
            documents(30)[:-1],
            documents(40, 5),
            "the training part holds no whole document (a smaller --data.val-fraction",
        ),
    ],
)
def test_documents_as_rows_become_windows_where_a_part_has_no_document(train, val, reason):
    config = settings(order="documents")
    changed, note = possible_order(config, train, val, EOT)
    assert changed == replace(config, data=replace(config.data, order="shuffled"))
    assert reason in note
    assert "--data.order shuffled" in note
    with pytest.raises(UserError, match="data.order='documents'.*--data.order shuffled") as error:
        check_fit(config, train, val, EOT)
    assert error.value.code == DATA
    check_fit(changed, train, val, EOT)


@pytest.mark.parametrize("order", ["documents", "shuffled", "notebook"])
def test_possible_order_keeps_an_order_that_fits(order):
    config, parts = settings(order=order), (documents(40, 40), documents(20))
    assert possible_order(config, *parts, EOT) == (config, "")
    check_fit(config, *parts, EOT)


def test_short_documents_need_no_full_window():
    check_fit(settings(order="documents", context_length=500), documents(3, 3), documents(3), EOT)


@pytest.mark.parametrize(
    ("config", "n_train", "n_val", "part", "flags"),
    [
        (settings(context_length=32), 90, 10, "validation", ["context-length", "val-fraction"]),
        (
            settings(context_length=32, val_fraction=0.8),
            20,
            80,
            "training",
            ["context-length", "val-fraction"],
        ),
        (settings(context_length=200), 90, 60, "training", ["context-length"]),
        (
            settings(context_length=32, batch_size=8, order="notebook"),
            150,
            40,
            "training",
            ["context-length", "batch-size"],
        ),
        (
            settings(context_length=32, batch_size=2, order="notebook"),
            90,
            20,
            "validation",
            ["context-length", "val-fraction"],
        ),
    ],
)
def test_fit_error_flags_make_the_text_fit(config, n_train, n_val, part, flags):
    """Extract the suggested flags from the message and try each of them."""

    def parts(fraction):
        total = n_train + n_val
        cut = n_train if fraction == config.data.val_fraction else int(total * (1 - fraction))
        return np.ones(cut, int), np.ones(total - cut, int)

    with pytest.raises(
        UserError,
        match=(
            f"the {part} part of 'mine' has .* one window takes {config.model.context_length + 1}"
        ),
    ) as error:
        check_fit(config, *parts(config.data.val_fraction), EOT)
    remedies = re.findall(r"--(\w+)\.([\w-]+) ([\d.]+)", str(error.value))
    assert [key for _, key, _ in remedies] == flags
    for group, key, value in remedies:
        number = float(value) if key == "val-fraction" else int(value)
        changed = from_dict(RunConfig, {group: {key.replace("-", "_"): number}}, config)
        train, val = parts(changed.data.val_fraction)
        check_fit(changed, train, val, EOT)
        TokenLoader(
            train, changed.model.context_length, changed.train.batch_size, order=changed.data.order
        )
        TokenLoader(val, changed.model.context_length, changed.train.batch_size, order="sequential")


def test_fit_error_names_no_flag_when_none_helps():
    with pytest.raises(UserError) as error:
        check_fit(settings(), np.ones(4, int), np.ones(2, int), EOT)
    assert "--" not in str(error.value)
