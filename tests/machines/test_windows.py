"""Windows: file locks, file encoding, and standard error that lacks some characters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llm_scratch.errors import CHECKPOINT

from .commands import TRAIN, UNUSUAL, Command, run_commands
from .conftest import HENS
from .machines import MACHINES

pytestmark = [pytest.mark.machines, pytest.mark.xdist_group("windows")]

WINDOWS = next(machine for machine in MACHINES if machine.name == "windows")
HOLD = """
from pathlib import Path
from llm_scratch.training.lock import exclusive_writer
with exclusive_writer(Path("run"), print):
    print("locked", flush=True)
    input()
"""


def test_second_process_is_refused_while_the_first_one_trains(tmp_path, home):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=WINDOWS.variables(home),
    ) as first:
        assert first.stdout.readline() == "locked\n"
        (tmp_path / "hens.txt").write_text(HENS, encoding="utf-8")
        (second,) = run_commands(
            WINDOWS, [Command(f"{TRAIN} --model.emb-dim 32 --out run")], tmp_path, home
        )
        first.stdin.close()
    assert second.code == CHECKPOINT
    assert f"is in use: process {first.pid} on {os.uname().nodename} trains there" in second.err
    assert first.returncode != 0, "the end of input is an error there"
    assert list((tmp_path / "run").iterdir()) == []


def test_text_files_are_utf8_with_plain_line_ends(results):
    folder = results(WINDOWS)[0]
    samples = (folder / "run" / "samples.md").read_bytes()
    assert b"\r" not in samples
    assert "好" in samples.decode("utf-8") or "ć" in samples.decode("utf-8")
    assert b"\r" not in (folder / "run" / "metrics.jsonl").read_bytes()


def test_output_into_a_file_has_every_character(results):
    known = results(WINDOWS)[1]
    assert UNUSUAL in known["generate"].out
    assert "✓  torch" in known["doctor"].out


def test_piped_text_is_utf8(results):
    """The chat saves its input, which comes through a pipe."""
    assert "你好" in (results(WINDOWS)[0] / "talk.json").read_text(encoding="utf-8")
