"""R9: of two processes that train in one run directory, one fails at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from effort import PATIENCE_SECONDS, wait_until

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.training.lock import NAME, exclusive_writer

from .conftest import STEPS, learned_rows

pytest.importorskip("fcntl", reason="needs flock, which Windows does not have")
RACES = 50
LOCK_REQUEST = "asks for the lock"  # as starter.py writes it
MAX_SLEEP_SECONDS = 1  # that a process may sleep in total before it reports the holder of the lock
RACER = """
import json, sys, time
from pathlib import Path
from llm_scratch.errors import UserError
from llm_scratch.storage import file_lock
from llm_scratch.training import lock
from llm_scratch.training.lock import exclusive_writer
here, me, other, races = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

tries, sleeps = [], []
flock = file_lock.fcntl.flock
file_lock.fcntl.flock = lambda *how: (tries.append(how), flock(*how))
lock.sleep = lambda seconds: (sleeps.append(seconds), time.sleep(seconds))

def tell(name, what):
    (here / f"{name}.{me}.new").write_text(json.dumps(what))
    (here / f"{name}.{me}.new").rename(here / f"{name}.{me}")

def wait_for(name):
    while not (here / f"{name}.{other}").exists():
        time.sleep(0.0002)

for race in range(races):
    tell(f"ready-{race}", None)
    wait_for(f"ready-{race}")
    tries.clear()
    sleeps.clear()
    try:
        with exclusive_writer(here / f"run-{race}", print):
            tell(f"done-{race}", ["holds", len(tries), sum(sleeps), ""])
            wait_for(f"done-{race}")  # until the other has lost too
    except UserError as e:
        tell(f"done-{race}", [e.code, len(tries), sum(sleeps), str(e)])
        wait_for(f"done-{race}")
"""


def test_r9_each_race_for_the_lock_has_one_winner(tmp_path, measured):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), me, other, str(RACES)])
        for me, other in (("a", "b"), ("b", "a"))
    ]
    try:
        assert [racer.wait(timeout=PATIENCE_SECONDS) for racer in racers] == [0, 0]
    finally:
        for racer in racers:
            racer.kill()
    longest = 0.0
    for race in range(RACES):
        results = {me: json.loads((tmp_path / f"done-{race}.{me}").read_text()) for me in "ab"}
        winners = [me for me in "ab" if results[me][0] == "holds"]
        assert len(winners) == 1, f"race {race}: {results}"
        code, tries, slept, message = results["b" if winners == ["a"] else "a"]
        assert (code, tries) == (CHECKPOINT, 1), "a held lock is requested once"
        assert f"process {racers[0 if winners == ['a'] else 1].pid} on " in message
        longest = max(longest, slept)
    assert longest <= MAX_SLEEP_SECONDS
    measured(
        "R9",
        f"{RACES} of {RACES} races with one winner; the other names it after one attempt and at"
        f" most {longest * 1000:.0f} ms of sleep",
        f"50 races, exit 4 after one attempt and at most {MAX_SLEEP_SECONDS} s of sleep",
    )


def test_r9_second_command_exits_with_4_and_the_first_continues(starter, whole, tmp_path, measured):
    first = starter.start(*whole.words, "--out", tmp_path / "run")
    wait_until(lambda: learned_rows(tmp_path / "run"), "a first step")
    first.send(signal.SIGSTOP)  # so that it does not end meanwhile
    try:
        for more in ([], ["--fresh", "--force"]):
            assert starter.run(*whole.words, *more, "--out", tmp_path / "run") == CHECKPOINT
            *_, request, answer = starter.log.read_text().splitlines()
            assert request == LOCK_REQUEST, "nothing happens between request and answer"
            assert f"is in use: process {first.pid} on " in answer
    finally:
        first.send(signal.SIGCONT)
    first.send(signal.SIGTERM)
    assert first.wait() in (0, 143)
    reached = (
        "a second `train` on a run, also with --fresh --force: exit code 4 before anything else"
    )
    measured("R9", reached, "exit 4 at once")


def test_r9_one_of_two_simultaneous_commands_trains(starter, whole, tmp_path, measured):
    races = 3
    for race in range(races):
        before, run = lock_requests(starter), tmp_path / str(race)
        both = [starter.start(*whole.words, "--out", run) for _ in range(2)]
        codes = [process.wait() for process in both]
        assert sorted(codes) == [0, CHECKPOINT], starter.log.read_text()[-2000:]
        assert f"is in use: process {both[codes.index(0)].pid} on " in starter.log.read_text()
        assert list_checkpoints(run)[0].name == f"step-{STEPS:08d}"
        assert lock_requests(starter) - before >= 2, "both requested it"
    measured(
        "R9",
        f"{races} of {races} pairs of commands started together: one trained to its end, the other"
        " ended with exit code 4",
        "exactly one runs",
    )


def lock_requests(starter):
    """The number of requests of a lock."""
    return starter.log.read_text().splitlines().count(LOCK_REQUEST)


def test_r9_lock_of_a_dead_process_is_taken_over(starter, whole, tmp_path, measured):
    process = starter.start(*whole.words, "--out", tmp_path / "run")
    wait_until(lambda: learned_rows(tmp_path / "run"), "a first step")
    process.send(signal.SIGKILL)
    assert process.wait() == -9
    assert json.loads((tmp_path / "run" / NAME).read_text())["pid"] == process.pid
    with (
        exclusive_writer(tmp_path / "run", pytest.fail),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
    ):
        exclusive_writer(tmp_path / "run", pytest.fail).__enter__()
    measured("R9", "the lock of a killed process is taken over at once", "taken over")
