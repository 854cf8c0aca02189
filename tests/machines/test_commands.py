"""Every main command on every simulated machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .commands import COMMANDS

pytestmark = pytest.mark.machines


def test_simulation_has_an_effect(machine, home):
    code, expected = machine.probe
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=machine.variables(home), timeout=60)
    assert expected in done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exits_as_expected(machine, command, results):
    result = results(machine)[command]
    assert result.code == COMMANDS[command].code, f"{COMMANDS[command].words}\n{result.out}\n{result.err}"
    assert "Traceback" not in result.err
