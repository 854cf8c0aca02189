"""The load of other programs, from the counters of the system."""

from __future__ import annotations

import os
import types

import pytest

from llm_scratch.hardware import other_load
from llm_scratch.hardware.other_load import LoadMeter


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Simulate a machine whose processors 0 and 1 of four are ours.

    Returns a function that sets the clock, our seconds, and busy hundredths per processor.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(other_load, "STAT", tmp_path / "stat")

    def set_to(clock, own, busy):
        rows = [
            f"cpu{number} {hundredths} 0 0 9999 9999 0 0 0 77 77"
            for number, hundredths in enumerate(busy)
        ]
        (tmp_path / "stat").write_text("\n".join(["cpu 1 1 1 1 1 1 1 1 1 1", *rows, "intr 5"]))
        monkeypatch.setattr(other_load.time, "monotonic", lambda: clock)
        monkeypatch.setattr(os, "times", lambda: types.SimpleNamespace(user=own, system=0.0))

    return set_to


@pytest.mark.parametrize(
    ("own", "busy", "others"),
    [
        (6.0, [300, 300, 0, 0], 0.0),
        (3.0, [300, 300, 0, 0], 1.0),
        (0.0, [300, 0, 300, 300], 1.0),  # only our processors count
        (6.2, [300, 300, 0, 0], 0.0),  # the system rounds
    ],
)
def test_other_load_excludes_this_process(own, busy, others, machine):
    machine(10.0, 1.0, [100] * 4)
    meter = LoadMeter()
    machine(13.0, 1.0 + own, [100 + each for each in busy])
    assert meter.measures_now
    assert meter.processors() == pytest.approx(others)


def test_other_load_uses_the_load_average_without_proc(machine, monkeypatch):
    machine(10.0, 0.0, [])
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0, 0), raising=False)
    meter = LoadMeter()
    assert not meter.measures_now
    machine(13.0, 6.0, [])
    assert meter.processors() == pytest.approx(2.4), "our own six seconds are a tenth of a minute"
    monkeypatch.delattr(os, "getloadavg")
    assert meter.processors() is None


def test_other_load_of_this_system_is_a_number_or_none():
    found = LoadMeter().processors()
    assert found is None or found >= 0
