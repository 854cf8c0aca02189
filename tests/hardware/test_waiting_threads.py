"""Beside busy programs the command line lets OpenMP's waiting threads sleep."""

import os
import subprocess
import sys

import pytest

from llm_scratch.hardware import waiting_threads
from llm_scratch.hardware.other_load import LoadMeter
from llm_scratch.hardware.waiting_threads import let_waiting_threads_sleep

PASSIVE = {"OMP_WAIT_POLICY": "passive"}
CODE = """
from llm_scratch.hardware import waiting_threads
from llm_scratch.hardware.other_load import LoadMeter
LoadMeter.processors = lambda meter: 99.0
waiting_threads.load_average = lambda: 99.0
from llm_scratch.cli import main
main(["config"])
import torch
"""


@pytest.fixture
def variables(monkeypatch):
    """Return a function: the variables of a process of four cores after the decision."""

    def decide(now, lately, measures_now=True, **environment):
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(LoadMeter, "processors", lambda meter: now)
        monkeypatch.setattr(LoadMeter, "measures_now", measures_now)
        monkeypatch.setattr(waiting_threads, "load_average", lambda: lately)
        monkeypatch.setattr(waiting_threads, "cpu_count", lambda: 4)
        let_waiting_threads_sleep(LoadMeter())
        return environment

    return decide


@pytest.mark.parametrize(
    ("now", "lately", "expected"),
    [
        (1.1, 1.1, PASSIVE),
        (1.0, 1.1, {}),
        (0.0, 4.0, {}),  # a program that has just ended
        (2.0, 0.5, {}),  # a short one
        (None, 2.0, {}),
        (2.0, None, {}),
    ],
)
def test_threads_sleep_if_a_quarter_of_the_cores_is_busy(now, lately, expected, variables):
    assert variables(now, lately) == expected


def test_nothing_is_decided_by_the_last_minute_alone(variables):
    """It would contain our own command that has just ended, which nothing tells apart."""
    assert variables(4.0, 4.0, measures_now=False) == {}


def test_users_choice_is_kept(variables):
    assert variables(4.0, 4.0, OMP_WAIT_POLICY="active") == {"OMP_WAIT_POLICY": "active"}


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP prints GOMP_SPINCOUNT")
def test_command_line_decides_before_torch_is_imported():
    """OpenMP prints how often a thread repeats its loop before it sleeps: 300,000 by default."""
    chosen = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
    kept = {name: value for name, value in os.environ.items() if name not in chosen}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '0'" in done.stderr
