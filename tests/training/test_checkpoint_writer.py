"""Failed saves: training continues after two, and ends with the third in a row.

It also ends when the last save fails.
"""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.training import checkpoint_writer
from llm_scratch.training.checkpoint_writer import (
    MEMORY_FACTOR,
    MIN_ASYNC_BYTES,
    CheckpointData,
    CheckpointWriter,
    should_save_async,
)


class FreeLock:
    folder = Path("run")

    def check(self):
        pass


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(checkpoint_writer, "sleep", slept.append)
    return slept


@pytest.fixture
def disk(monkeypatch):
    """Let `disk(...)` decide which of the next saves succeed; `disk.marked` lists the best ones."""

    class Disk:
        outcomes: ClassVar = []
        marked: ClassVar = []

        def __call__(self, *outcomes):
            self.outcomes[:] = outcomes
            self.marked[:] = []

        def save(
            self,
            run,
            step,
            config,
            weights,
            optimizer,
            state,
            write_tokenizer,
            is_best,
            before_save,
        ):
            before_save()
            if not self.outcomes.pop(0):
                raise UserError("the disk is full", RESOURCES)
            self.marked.extend([step] if is_best else [])

    disk = Disk()
    monkeypatch.setattr(checkpoint_writer.checkpoint, "save", disk.save)
    return disk


def some_data(step, best=2.0):
    return CheckpointData(step, {}, {}, {}, {"best": best})


def outcomes_of(writer, steps):
    """What `_write` returns for each step."""
    return [
        writer._write(writer.lock, some_data(step), is_best=False, is_last=False)
        for step in range(steps)
    ]


def test_writer_warns_and_continues_after_a_failed_save(disk, pauses):
    warnings = []
    disk(True, False, False, True, False, False, True)
    assert outcomes_of(CheckpointWriter(FreeLock(), warnings.append), 7) == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert warnings == ["the disk is full (training continues; the next save tries again)"] * 4
    assert pauses == []


def test_writer_raises_after_three_consecutive_failures(disk, pauses):
    writer = CheckpointWriter(FreeLock(), lambda message: None)
    disk(False, False, False)
    assert outcomes_of(writer, 2) == [False, False]
    with pytest.raises(UserError, match=r"the disk is full \(3 saves in a row failed\)") as error:
        outcomes_of(writer, 1)
    assert error.value.code == RESOURCES


@pytest.mark.parametrize(
    ("row", "ends_well"),
    [((False, True), True), ((False, False, True), True), ((False, False, False), False)],
)
def test_writer_retries_the_last_save_three_times(row, ends_well, disk, pauses):
    writer = CheckpointWriter(FreeLock(), lambda message: None)
    disk(*row)
    with nullcontext() if ends_well else pytest.raises(UserError, match="3 saves in a row failed"):
        writer.submit(some_data(9), is_last=True)
    assert pauses == [checkpoint_writer.RETRY_DELAY_SECONDS] * (len(row) - 1)


def test_writer_raises_at_once_for_other_errors(monkeypatch):
    def save(*args):
        raise UserError("something else", CHECKPOINT)

    monkeypatch.setattr(checkpoint_writer.checkpoint, "save", save)
    with pytest.raises(UserError, match="something else"):
        CheckpointWriter(FreeLock(), pytest.fail).submit(some_data(1), is_last=True)


def test_writer_raises_at_once_when_the_run_directory_is_gone(disk):
    class LostLock(FreeLock):
        def check(self):
            raise UserError("it was removed", RESOURCES)

    with pytest.raises(UserError, match="it was removed"):
        CheckpointWriter(LostLock(), pytest.fail).submit(some_data(1), is_last=True)


def test_writer_wraps_each_save_in_the_fault_hook(disk):
    faults = []

    def hook(step, model):
        faults.append((step, model))
        return nullcontext()

    disk(True, True)
    writer = CheckpointWriter(FreeLock(), pytest.fail, inject_fault=hook)
    outcomes_of(writer, 2)
    assert faults == [(0, None), (1, None)]


def test_async_save_blocks_only_in_wait(disk):
    may_write, done = threading.Event(), []
    disk(True)
    with CheckpointWriter(
        FreeLock(), pytest.fail, lambda: (may_write.wait(PATIENCE_SECONDS), done.append("saved"))
    ) as writer:
        writer.submit(some_data(1), in_background=True)
        assert done == []
        may_write.set()
        writer.wait()
        assert done == ["saved"]
        writer.wait()  # nothing is in progress


def test_best_is_that_of_the_saved_checkpoints(disk):
    """A lower validation loss counts as the best only once its checkpoint is written."""
    disk(True, False, True, True)
    heard = []
    with CheckpointWriter(FreeLock(), lambda message: None, best=3.0) as writer:
        for step, best in ((1, 2.5), (2, 2.0), (3, 2.2), (4, 2.2)):
            writer.submit(some_data(step, best))
            heard += [writer.wait(), writer.wait()]
    assert heard == [2.5, 2.5, 2.5, 2.5, 2.2, 2.2, 2.2, 2.2]
    assert disk.marked == [1, 3]


def test_rollback_restarts_the_best(disk):
    disk(True)
    with CheckpointWriter(FreeLock(), pytest.fail, best=3.0) as writer:
        writer.submit(some_data(1, 2.5))
        writer.wait()
        writer.restart(2.8)
        assert writer.wait() == 2.8


def test_third_failure_in_the_background_is_raised_by_wait(disk):
    warnings = []
    disk(False, False, False)
    with CheckpointWriter(FreeLock(), warnings.append) as writer:
        for step in range(2):
            writer.submit(some_data(step), in_background=True)
            writer.wait()
        writer.submit(some_data(2), in_background=True)
        with pytest.raises(UserError, match=r"the disk is full \(3 saves in a row failed\)"):
            writer.wait()
    assert warnings == ["the disk is full (training continues; the next save tries again)"] * 2


def test_synchronous_save_is_done_when_submit_returns(disk):
    with CheckpointWriter(FreeLock(), lambda message: None) as writer:
        disk(True, False)
        for step in range(2):
            writer.submit(some_data(step))
            assert writer._in_progress.done()
            writer.wait()


def test_writer_finishes_the_save_on_an_error_in_the_block(disk):
    may_write, done = threading.Event(), []
    disk(True)

    def fail():
        with CheckpointWriter(
            FreeLock(),
            pytest.fail,
            lambda: (may_write.wait(PATIENCE_SECONDS), done.append("saved")),
        ) as writer:
            writer.submit(some_data(1), in_background=True)
            threading.Timer(0.05, may_write.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert done == ["saved"]


def test_ranks_that_do_not_write_have_a_writer_too(disk):
    with CheckpointWriter(None, pytest.fail, best=3.0) as writer:
        writer.submit(some_data(1, 2.0))
        assert writer.wait() == 2.0
        writer.submit(some_data(2, 2.0), is_last=True)


@pytest.mark.parametrize(
    ("wanted", "size", "free", "expected"),
    [
        ("yes", 1, 0, True),
        ("no", 2**40, 2**50, False),
        ("auto", MIN_ASYNC_BYTES, 2**50, False),
        ("auto", MIN_ASYNC_BYTES + 1, MEMORY_FACTOR * (MIN_ASYNC_BYTES + 1) + 1, True),
        ("auto", MIN_ASYNC_BYTES + 1, MEMORY_FACTOR * (MIN_ASYNC_BYTES + 1), False),
        ("auto", MIN_ASYNC_BYTES + 1, None, True),
    ],
)
def test_async_save_is_chosen_for_large_states_that_fit_in_memory(wanted, size, free, expected):
    assert should_save_async(wanted, size, free) is expected
