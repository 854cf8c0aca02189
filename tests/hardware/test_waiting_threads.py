"""The command line makes OpenMP's waiting threads sleep early, unless the user chose otherwise."""

import os
import re
import subprocess
import sys

import pytest

from llm_scratch.hardware.waiting_threads import REPETITIONS, let_waiting_threads_sleep

CODE = "from llm_scratch.cli import main; main(['config']); import torch"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": str(REPETITIONS)}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
    ids=["nothing", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"],
)
def test_users_choice_is_kept(monkeypatch, chosen, expected):
    environment = dict(chosen)
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep()
    assert environment == expected


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
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr) == [str(REPETITIONS)]
