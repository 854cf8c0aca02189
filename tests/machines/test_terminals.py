"""Terminals get no colors where unwanted, and no control codes where unsupported."""

from __future__ import annotations

import re

import pytest

from .commands import COMMANDS
from .machines import MACHINES

pytestmark = pytest.mark.machines

COLOR = re.compile(r"\x1b\[[\d;]*(?:3[0-8]|4[0-8]|9\d|10\d)[\d;]*m")
TERMINALS = {machine.name: machine for machine in MACHINES}


@pytest.mark.xdist_group("no-color")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_color_variable_disables_colors(command, results):
    assert not COLOR.search(results(TERMINALS["no-color"])[1][command].out)


@pytest.mark.xdist_group("dumb-terminal")
@pytest.mark.parametrize("command", COMMANDS)
def test_dumb_terminal_receives_no_control_codes(command, results):
    assert "\x1b" not in results(TERMINALS["dumb-terminal"])[1][command].out


@pytest.mark.xdist_group("ordinary")
@pytest.mark.parametrize("command", COMMANDS)
def test_pipe_receives_no_control_codes(command, results):
    result = results(TERMINALS["ordinary"])[1][command]
    assert not re.search(r"\x1b|\r(?!\n)", result.out + result.err)


@pytest.mark.xdist_group("narrow-terminal")
def test_narrow_terminal_shows_full_names_of_runs(results):
    out = results(TERMINALS["narrow-terminal"])[1]["runs-list"].out
    for name in ("branch", "int8", "run", "stories", "whole"):
        assert re.search(rf"\b{name}\b", out)


@pytest.mark.xdist_group("narrow-terminal")
def test_tables_on_a_narrow_terminal_fit_its_width(results):
    machine = TERMINALS["narrow-terminal"]
    for name in ("doctor", "evaluate", "quantize-8", "runs-list"):
        lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", results(machine)[1][name].out).splitlines()
        table = [line.rpartition("\r")[2] for line in lines if "llm-scratch" not in line]
        assert max(map(len, table)) <= machine.columns, name
