"""Beside busy programs the command line lets OpenMP's waiting threads sleep."""

import os
import subprocess
import sys

import pytest

from llm_scratch.hardware.waiting_threads import MAX_IDLE, let_waiting_threads_sleep

CODE = """
from llm_scratch.hardware.other_load import LoadMeter
LoadMeter.processors = lambda meter: 1.0
from llm_scratch.cli import main
main(["config"])
import torch
"""


@pytest.mark.parametrize(
    ("busy", "expected"),
    [(None, {}), (0.0, {}), (MAX_IDLE, {}), (1.0, {"OMP_WAIT_POLICY": "passive"})],
)
def test_threads_sleep_beside_other_programs(monkeypatch, busy, expected):
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep(busy)
    assert environment == expected


def test_users_choice_is_kept(monkeypatch):
    environment = {"OMP_WAIT_POLICY": "active"}
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep(1.0)
    assert environment == {"OMP_WAIT_POLICY": "active"}


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
