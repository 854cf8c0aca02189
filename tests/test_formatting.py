"""Durations in suitable units."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import llm_scratch
from llm_scratch.formatting import DAY, HOUR, YEAR, counted, format_bytes, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.26, "0.3 s"),
        (0.97, "1 s"),
        (7.4, "7 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (130, "2 min 10 s"),
        (754, "12 min 34 s"),
        (3599.7, "1 h"),
        (3 * HOUR + 20 * 60 + 29, "3 h 20 min"),
        (26 * HOUR, "26 h"),
        (2 * DAY + 5 * HOUR, "2 days 5 h"),
        (837 * HOUR + 34 * 60 + 11, "35 days"),
        (800 * DAY, "2.2 years"),
        (1234 * YEAR, "1,234.0 years"),
    ],
)
def test_format_duration_uses_seconds_minutes_and_hours(seconds, text):
    assert format_duration(seconds) == text


def test_format_duration_is_monotonic():
    units = {"s": 1, "min": 60, "h": HOUR, "days": DAY, "years": YEAR}
    before = -1.0
    for exponent in range(3000):
        seconds = math.exp(exponent / 140)
        words = format_duration(seconds).replace(",", "").split()
        now = sum(
            float(number) * units[unit]
            for number, unit in zip(words[::2], words[1::2], strict=True)
        )
        assert now >= before
        assert now == pytest.approx(seconds, rel=0.06, abs=0.51)
        before = now


def test_durations_are_formatted_only_by_format_duration():
    """Only ticks of a time axis, which have no space for 1 h 30 min, use 1:30."""
    for path in Path(llm_scratch.__file__).parent.rglob("*.py"):
        if path.name == "plot.py" and path.parent.name in ("training", "reports"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"timedelta|:\{[^{}]*:02\}", text), (
            f"{path}: use llm_scratch.formatting.format_duration"
        )


@pytest.mark.parametrize(
    ("number", "text"),
    [(950, "950 B"), (53_687_091, "51.2 MiB"), (1 << 20, "1 MiB"), (1023.7 * 2**20, "1,024 MiB")],
)
def test_format_bytes(number, text):
    assert format_bytes(number) == text


def test_no_other_file_writes_units_of_bytes():
    for path in Path(llm_scratch.__file__).parent.rglob("*.py"):
        if path.name != "formatting.py":
            found = re.search(r"\} ?[kKMGT]i?B\b", path.read_text(encoding="utf-8"))
            assert not found, f"{path}: use llm_scratch.formatting.format_bytes"


def test_counted_has_the_form_of_the_number():
    found = [counted(n, "batch", "batches") for n in (0, 1, 2)] + [counted(1200, "layer")]
    assert found == ["0 batches", "1 batch", "2 batches", "1,200 layers"]
