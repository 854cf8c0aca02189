"""R1: killed with SIGKILL at random moments, a third of them inside a save, and started again until it is done, a run is the same."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from llm_scratch.checkpoint import folders

from .conftest import SAVE_EVERY, Process, Starter, Whole, assert_same_run, learned_rows

SEED = 1
INSIDE = 0.004  # seconds after it began at which a save of this size is still going on, most of the time


def wait_for_a_save(ckpt: Path, process: Process, until: float) -> bool:
    """Look until the folder of a save in progress is there; False if `until` comes first."""
    while time.perf_counter() < until:
        if any(ckpt.glob("*.tmp-*")):
            return True
    return False


def kill_somewhere(starter: Starter, whole: Whole, run: Path, rng: random.Random, inside: bool) -> int:
    """Start the run, kill it at a random moment; returns its exit code."""
    began = time.perf_counter()
    process = starter.start(*whole.words, "--out", run)
    if inside and wait_for_a_save(run / "ckpt", process, began + whole.seconds):
        time.sleep(rng.uniform(0, INSIDE))
    elif not inside:
        time.sleep(rng.uniform(0, whole.seconds))
    process.send(signal.SIGKILL)
    return process.wait()


def lost_steps(run: Path) -> int:
    """Steps that were logged and are in no checkpoint."""
    done = max((row["step"] for row in learned_rows(run)), default=0)
    saved = max((int(folder.name[5:]) for folder in folders(run)), default=0)
    return int(done - saved)


def kill_and_compare(starter: Starter, whole: Whole, folder: Path, kills: int) -> tuple[int, int, int]:
    """Runs until so many kills have hit, each compared with the whole one: (runs, kills that cut a save off, most steps lost)."""
    rng = random.Random(SEED)
    killed = runs = cut_off = lost = 0
    while killed < kills:
        run, code = folder / str(runs), -9
        while code != 0:
            if killed < kills:
                code = kill_somewhere(starter, whole, run, rng, inside=killed % 3 == 2)
            else:
                code = starter.run(*whole.words, "--out", run)
            assert code in (0, -9), f"seed {SEED}, kill {killed}: exit code {code}\n{starter.log.read_text()}"
            killed += code == -9
            cut_off += code == -9 and any((run / "ckpt").glob("*.tmp-*"))
            lost = max(lost, lost_steps(run))
        assert_same_run(run, whole.folder)
        runs += 1
    return runs, cut_off, lost


def check(starter: Starter, whole: Whole, folder: Path, kills: int) -> str:
    runs, cut_off, lost = kill_and_compare(starter, whole, folder, kills)
    assert lost <= SAVE_EVERY
    assert cut_off >= kills / 4, "too few hit a save to say anything about saves"
    return f"{kills} of {kills} ({cut_off} inside a save; {runs} runs, all identical; at most {lost} steps lost)"


def test_r1_killed_at_random_moments_the_run_is_the_same(starter, whole, tmp_path, measured):
    reached = check(starter, whole, tmp_path, 20)
    measured("R1", reached, f"20 kills, final bits and metrics identical, at most {SAVE_EVERY} steps (a save interval) lost")


@pytest.mark.slow
def test_r1_200_kills(starter, whole, tmp_path, measured):
    reached = check(starter, whole, tmp_path, 200)
    measured("R1", reached, f"200 kills, final bits and metrics identical, at most {SAVE_EVERY} steps (a save interval) lost")
