"""Every numeric setting has a range, shared by settings files, flags, chat and Python."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
import torch

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.config import DataConfig, RunConfig, TrainConfig, from_dict
from llm_scratch.errors import UserError
from llm_scratch.ranges import RANGES, OutOfRange, Range, check, count


def numeric_settings(cls: type) -> list[str]:
    """Fields of a dataclass that hold a number, or several."""
    found = []
    for name, hint in get_type_hints(cls).items():
        kinds = {hint, *get_args(hint)}
        if kinds & {int, float} and bool not in kinds:
            found.append(name)
    return found


MODELS = [each.config for each in ARCHITECTURES.values()]


@pytest.mark.parametrize("cls", [*MODELS, DataConfig, TrainConfig])
def test_every_numeric_setting_of_a_run_has_a_range(cls):
    assert [name for name in numeric_settings(cls) if name not in RANGES] == []


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, f.name)
        for cls in (*MODELS, DataConfig, TrainConfig)
        for f in fields(cls)
        if f.name in RANGES
    ],
)
def test_settings_refuse_nan_infinity_and_values_out_of_range(cls, name):
    allowed = RANGES[name]
    for value in (math.nan, math.inf, -math.inf, allowed.least - 1, allowed.most * 2):
        given = (value, value) if name == "betas" else value
        with pytest.raises(OutOfRange, match=f"^{name}: .* is out of range; give "):
            cls(**{name: given})


def test_settings_file_names_the_section_of_a_number_that_is_out_of_range():
    with pytest.raises(UserError, match=r"^train\.lr: nan is out of range; give 1e-12 to 1e\+06$"):
        from_dict(RunConfig, {"train": {"lr": "nan"}})


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (
            Range(1e-6, 10, zero=True),
            [0, 1e-6, 10, torch.tensor(1.0).item()],
            [-1, 1e-320, 11, math.nan],
            "0, or 1e-06 to 10",
        ),
        (Range(0, 1, open_least=True), [1e-320, 1], [0, 1.1], "a number above 0 and at most 1"),
        (Range(0, 1, open_most=True), [0, 0.999], [1, -0.1], "a number at least 0 and below 1"),
        (
            count(),
            [1, 2**31 - 1],
            [0, 2**31, 2.0, True, "3"],
            "a whole number from 1 to 2147483647",
        ),
        (count(0, 3, "or None"), [0, 3], [-1, 4], "a whole number from 0 to 3, or None"),
    ],
)
def test_range_contains_its_values_and_is_printed(allowed, inside, outside, words):
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == words


def test_check_takes_none_unknown_names_and_each_of_several_numbers():
    check("top_k", None)
    check("mine", math.nan)
    check("logit_bias", {3: 1.0, 4: -2.0})
    with pytest.raises(OutOfRange, match="^--logit-bias: inf is out of range"):
        check("logit_bias", {3: 1.0, 4: math.inf}, "--logit-bias")
    check("max_tokens", 0)
    with pytest.raises(OutOfRange, match="^max_tokens: 0 is out of range"):
        check("max_tokens", 0, owner="CompareDecoding")
