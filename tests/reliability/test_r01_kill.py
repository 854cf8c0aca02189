"""R1: killed with SIGKILL at random moments, a third of them inside a save, and started again until it is done, a run is the same.

Every other kill hits a process that saves in the background.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from llm_scratch.checkpoint import folders

from .conftest import SAVE_EVERY, Process, Starter, Whole, assert_same_run, learned_rows

SEED = 1
INSIDE = 0.002  # seconds after it began at which a save of this size is still going on, most of the time


def wait_for_a_save(ckpt: Path, process: Process, until: float) -> bool:
    """Look until the folder of a save in progress is there; False if `until` comes first."""
    while time.perf_counter() < until:
        if any(ckpt.glob("*.tmp-*")):
            return True
    return False


def kill_somewhere(starter: Starter, whole: Whole, run: Path, rng: random.Random, inside: bool, background: bool) -> int:
    """Start the run, kill it at a random moment; returns its exit code."""
    began = time.perf_counter()
    process = starter.start(*whole.words, "--out", run, "--machine.background-save", "yes" if background else "no")
    if inside and wait_for_a_save(run / "ckpt", process, began + whole.seconds):
        time.sleep(rng.uniform(0, INSIDE))
    elif not inside:
        time.sleep(rng.uniform(0, whole.seconds))
    process.send(signal.SIGKILL)
    return process.wait()


def progress(run: Path) -> tuple[int, int]:
    """The last step that was logged, and the last that is in a checkpoint."""
    done = max((int(row["step"]) for row in learned_rows(run)), default=0)
    return done, max((int(folder.name[5:]) for folder in folders(run)), default=0)


def kill_and_compare(starter: Starter, whole: Whole, folder: Path, kills: int) -> tuple[int, int, list[int]]:
    """Runs until so many kills have hit, each compared with the whole one: (runs, kills that cut a save off, most steps lost).

    The steps lost are two numbers: where training waits for its saves, and where they go on in the background.
    """
    rng = random.Random(SEED)
    killed = runs = cut_off = 0
    lost = [0, 0]
    while killed < kills:
        run, code = folder / str(runs), -9
        while code != 0:
            background, before = killed % 2 == 1, progress(run)
            if killed < kills:
                code = kill_somewhere(starter, whole, run, rng, killed % 3 == 2, background)
            else:
                code = starter.run(*whole.words, "--out", run)
            assert code in (0, -9), f"seed {SEED}, kill {killed}: exit code {code}\n{starter.log.read_text()}"
            killed += code == -9
            cut_off += code == -9 and any((run / "ckpt").glob("*.tmp-*"))
            if (after := progress(run)) != before:  # else it was killed before its first step
                lost[background] = max(lost[background], after[0] - after[1])
        assert_same_run(run, whole.folder)
        runs += 1
    return runs, cut_off, lost


def check(starter: Starter, whole: Whole, folder: Path, kills: int) -> str:
    runs, cut_off, lost = kill_and_compare(starter, whole, folder, kills)
    assert lost[0] <= SAVE_EVERY
    assert lost[1] < 2 * SAVE_EVERY, "a save that the next one has to wait for"
    assert cut_off >= kills / 4, "too few hit a save to say anything about saves"
    most = f"at most {lost[0]} steps lost, {lost[1]} with saves in the background"
    return f"{kills} of {kills} ({cut_off} inside a save; {runs} runs, all identical; {most})"


ASKED = f"final bits and metrics identical, at most {SAVE_EVERY} steps (a save interval) lost; in the background those of a save more"


def test_r1_killed_at_random_moments_the_run_is_the_same(starter, whole, tmp_path, measured):
    measured("R1", check(starter, whole, tmp_path, 20), f"20 kills, {ASKED}")


@pytest.mark.slow
def test_r1_200_kills(starter, whole, tmp_path, measured):
    measured("R1", check(starter, whole, tmp_path, 200), f"200 kills, {ASKED}")
