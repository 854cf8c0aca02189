"""R1: a run that is killed with SIGKILL and resumed until it is complete ends with the same bits.

A third of the kills hit a save, and every other one a process with background saves. The other
kills are uniform in the processor time of the run: on a busy machine, seconds would be other steps.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from effort import PATIENCE_SECONDS, wait_until

from llm_scratch.storage import files
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.storage.checkpoint_folders import resolve_pointer
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

from .conftest import SAVE_EVERY, Process, Starter, Whole, assert_same_run, learned_rows, tiny

SEED = 1
INSIDE = 0.002  # seconds into a save, at most, at which the process is stopped
CLOCK_TICK = 0.01  # seconds in which the processor time of a process is counted


def half_written(run: Path) -> set[Path]:
    """The folders of saves in progress, and of those that a kill cut off."""
    return {*(run / "ckpt").glob("*.tmp-*"), *(run / "ckpt").glob(".*.part")}


def stop_inside_a_save(process: Process, run: Path, before: set[Path], rng: random.Random) -> None:
    """Stop the process at a random moment of a save; a stop that comes after the save is undone.

    So the number of hits does not depend on the load. If its last save is missed, the process ends.
    """
    state, end = psutil.Process(process.pid), time.monotonic() + PATIENCE_SECONDS
    while not process.has_ended():
        if half_written(run) <= before:
            if time.monotonic() > end:
                raise TimeoutError(
                    "neither a save nor the end of the process;"
                    f" it is {state.status()}:\n{process.stacks()}"
                )
            continue
        time.sleep(rng.uniform(0, INSIDE))
        process.send(signal.SIGSTOP)
        stopped = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        wait_until(lambda stopped=stopped: state.status() in stopped, "the process stops")
        if not half_written(run) <= before:
            return
        process.send(signal.SIGCONT)


def kill_somewhere(
    starter: Starter, whole: Whole, run: Path, rng: random.Random, inside: bool, background: bool
) -> tuple[int, bool]:
    """Start the run and kill it at a random moment.

    Returns its exit code, and whether the kill interrupted a save.
    """
    before = half_written(run)
    how = ["--system.async-save", "yes" if background else "no"]
    process = starter.start(*whole.words, "--out", run, *how)
    if inside:
        stop_inside_a_save(process, run, before, rng)
    else:
        moment = rng.uniform(0, whole.cpu_seconds)
        while process.cpu_seconds() < moment and not process.has_ended():
            time.sleep(CLOCK_TICK / 2)
        time.sleep(rng.uniform(0, CLOCK_TICK))
    process.send(signal.SIGKILL)
    code = process.wait()
    return code, code == -9 and not half_written(run) <= before


def progress(run: Path) -> tuple[int, int]:
    """The last step that was logged, and the last that is in a checkpoint."""
    done = max((int(row["step"]) for row in learned_rows(run)), default=0)
    return done, max((int(folder.name[5:]) for folder in list_checkpoints(run)), default=0)


def kill_and_compare(
    starter: Starter, whole: Whole, folder: Path, kills: int
) -> tuple[int, int, list[int]]:
    """Repeat runs until `kills` kills have hit, and compare each with the uninterrupted run.

    Returns the number of runs, the kills that interrupted a save, and the most steps lost.

    The steps lost are two numbers:
    where training waits for its saves, and where they continue in the background.
    """
    rng = random.Random(SEED)
    killed = runs = cut_off = 0
    lost = [0, 0]
    while killed < kills:
        run, code = folder / str(runs), -9
        while code != 0:
            background, before = killed % 2 == 1, progress(run)
            if killed < kills:
                code, cut = kill_somewhere(starter, whole, run, rng, killed % 3 == 2, background)
            else:
                code, cut = starter.run(*whole.words, "--out", run), False
            assert code in (
                0,
                -9,
            ), f"seed {SEED}, kill {killed}: exit code {code}\n{starter.log.read_text()}"
            killed += code == -9
            cut_off += cut
            if (after := progress(run)) != before:  # else it was killed before its first step
                lost[background] = max(lost[background], after[0] - after[1])
        assert_same_run(run, whole.folder)
        runs += 1
    return runs, cut_off, lost


def check(starter: Starter, whole: Whole, folder: Path, kills: int) -> str:
    runs, cut_off, lost = kill_and_compare(starter, whole, folder, kills)
    assert lost[0] <= SAVE_EVERY
    assert lost[1] <= 2 * SAVE_EVERY, "a save that the next one waits for"
    assert cut_off >= kills / 4, "too few kills hit a save for a conclusion"
    most = f"at most {lost[0]} steps lost, {lost[1]} with background saves"
    return f"{kills} of {kills} ({cut_off} during a save; {runs} runs, all identical; {most})"


TARGET = (
    f"final bits and metrics identical, at most {SAVE_EVERY} steps (one save interval) lost;"
    " two intervals with background saves"
)


def test_r1_run_killed_at_random_moments_ends_with_the_same_bits(
    starter, whole, tmp_path, measured
):
    measured("R1", check(starter, whole, tmp_path, 20), f"20 kills, {TARGET}")


@pytest.mark.slow
def test_r1_run_killed_200_times_ends_with_the_same_bits(starter, whole, tmp_path, measured):
    measured("R1", check(starter, whole, tmp_path, 200), f"200 kills, {TARGET}")


class Killed(BaseException):
    """The process ends here."""


class UntilRename(files.FileSystem):
    """A disk of a process that is killed in its save of a step, before it writes a pointer."""

    def __init__(self, step: int, pointer: str) -> None:
        self.step, self.pointer = f"step-{step:08d}", pointer
        self.is_killed = False

    def rename(self, old: Path, new: Path) -> None:
        if new.name == self.pointer and (new.parent / self.step).exists():
            self.is_killed = True
            raise Killed
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        if not self.is_killed:
            super().remove(path)


class PointersAtStart(Callback):
    """What `latest` and `best` name when a run starts, and the checkpoint that it starts from."""

    def started(self, run, resumed):
        self.start = f"step-{run.step:08d}"
        self.latest, self.best = (resolve_pointer(run.folder, name) for name in ("latest", "best"))


@pytest.mark.parametrize("step", [10, 20, 30])
@pytest.mark.parametrize("pointer", ["latest", "best"])
def test_r1_a_save_killed_before_its_pointers_is_completed_on_resume(
    pointer, step, corpus, quick, tmp_path, monkeypatch
):
    config = tiny(epochs=None, steps=30, eval_every=10)
    train(config, tmp_path / "whole", corpus=corpus)
    monkeypatch.setattr(files, "filesystem", UntilRename(step, pointer))
    with pytest.raises(Killed):
        train(config, tmp_path / "killed", corpus=corpus)
    monkeypatch.setattr(files, "filesystem", files.FileSystem())
    assert half_written(tmp_path / "killed")
    at = PointersAtStart()
    train(config, tmp_path / "killed", corpus=corpus, callbacks=[at])
    assert at.latest == at.best == at.start, "each checkpoint of this run is the best so far"
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


class SlowestSaves(Callback):
    """Each save lasts until training cannot go on without it; `lost`: what a kill would lose."""

    def __init__(self, every: int, steps: int) -> None:
        self.every, self.steps = every, steps
        self.step_now = self.lost = 0

    def step(self, run, row):
        saved = max((int(folder.name[5:]) for folder in list_checkpoints(run.folder)), default=0)
        self.lost = max(self.lost, run.step - saved)
        self.step_now = run.step

    @contextmanager
    def slow_save(self, step: int, model: object = None) -> Iterator[None]:
        next_save = step + self.every
        if model is None and next_save <= self.steps:
            wait_until(lambda: self.step_now == next_save, "training reaches its next save")
        yield


def test_r1_a_kill_loses_two_save_intervals_if_background_saves_are_slow(corpus, quick, tmp_path):
    config = tiny(epochs=None, steps=40, save_every=10)
    config = replace(config, system=replace(config.system, async_save="yes"))
    saves = SlowestSaves(config.train.save_every, config.train.steps)
    train(config, tmp_path, corpus=corpus, callbacks=[saves], inject_fault=saves.slow_save)
    assert saves.lost == 2 * config.train.save_every
