"""The command line makes OpenMP's waiting threads sleep early, unless the user chose otherwise."""

import os
import re
import subprocess
import sys

import pytest

from llm_scratch.hardware.waiting_threads import (
    ALONE,
    BESIDE_OTHERS,
    MAX_IDLE,
    let_waiting_threads_sleep,
)

CODE = "from llm_scratch.cli import main; main(['config']); import torch"


@pytest.mark.parametrize(
    ("busy", "expected"),
    [(None, ALONE), (0.0, ALONE), (MAX_IDLE, ALONE), (1.0, BESIDE_OTHERS)],
)
def test_threads_wait_shorter_beside_other_programs(monkeypatch, busy, expected):
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep(busy)
    assert environment == {"GOMP_SPINCOUNT": str(expected)}


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_users_choice_is_kept(monkeypatch, chosen):
    environment = dict(chosen)
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep(1.0)
    assert environment == chosen


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's torch has GNU's OpenMP")
def test_command_line_sets_it_before_torch_is_imported():
    kept = {name: value for name, value in os.environ.items() if not re.match("OMP_|GOMP_", name)}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    [count] = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    assert int(count) in (ALONE, BESIDE_OTHERS)
