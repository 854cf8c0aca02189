"""Saves that fail: the run goes on twice, and ends with the third in a row or with one that was the last."""

import threading

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.storage import files
from llm_scratch.training import checkpoint_writer, fault_injection
from llm_scratch.training.checkpoint_writer import MEMORY_FACTOR, MIN_ASYNC_BYTES, CheckpointWriter, should_save_async


class FreeLock:
    def check(self):
        pass


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(checkpoint_writer, "sleep", slept.append)
    return slept


def outcomes(*row):
    """A save that fails where the row says so."""
    left = list(row)

    def save():
        if not left.pop(0):
            raise UserError("the disk is full", RESOURCES)

    return save


def test_a_failed_save_is_told_and_the_run_goes_on(pauses):
    said = []
    saves = CheckpointWriter(FreeLock(), said.append)
    save = outcomes(True, False, False, True, False, False, True)
    assert [saves.write(save, step, last=False) for step in range(7)] == [True, False, False, True, False, False, True]
    assert said == ["the disk is full (training continues; the next save tries again)"] * 4
    assert pauses == []


def test_the_third_in_a_row_ends_the_run(pauses):
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    save = outcomes(False, False, False)
    assert not saves.write(save, 1, last=False)
    assert not saves.write(save, 2, last=False)
    with pytest.raises(UserError, match=r"the disk is full \(3 saves in a row failed\)") as error:
        saves.write(save, 3, last=False)
    assert error.value.code == RESOURCES


@pytest.mark.parametrize(("row", "ends_well"), [((False, True), True), ((False, False, True), True), ((False, False, False), False)])
def test_the_last_save_is_tried_three_times_at_once(row, ends_well, pauses):
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    if ends_well:
        assert saves.write(outcomes(*row), 9, last=True)
    else:
        with pytest.raises(UserError, match="3 saves in a row failed"):
            saves.write(outcomes(*row), 9, last=True)
    assert pauses == [checkpoint_writer.RETRY_DELAY_SECONDS] * (len(row) - 1)


def test_an_error_that_is_not_the_disks_ends_the_run_at_once():
    def save():
        raise UserError("something else", CHECKPOINT)

    with pytest.raises(UserError, match="something else"):
        CheckpointWriter(FreeLock(), pytest.fail).write(save, 1, last=False)


def test_a_run_directory_that_is_gone_ends_the_run_at_once():
    class LostLock:
        def check(self):
            raise UserError("it was removed", RESOURCES)

    with pytest.raises(UserError, match="it was removed"):
        CheckpointWriter(LostLock(), pytest.fail).write(pytest.fail, 1, last=False)


def test_a_full_disk_can_be_ordered(tmp_path, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "save:4:enospc")
    real = files.filesystem
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    done = [saves.write(lambda: files.atomic_write(tmp_path / "file", "x"), step, last=False) for step in (3, 4, 4)]
    assert done == [True, False, True]
    assert files.filesystem is real


def test_a_save_in_the_background_is_not_waited_for_until_that_is_asked():
    goes_on, done = threading.Event(), []
    with CheckpointWriter(FreeLock(), pytest.fail) as saves:
        saves.submit(lambda: (goes_on.wait(PATIENCE_SECONDS), done.append("saved")), 1)
        assert done == []
        goes_on.set()
        assert saves.wait()
        assert done == ["saved"]
        assert saves.wait(), "nothing is under way"


def test_what_came_of_it_is_said_once_and_failures_count():
    said = []
    with CheckpointWriter(FreeLock(), said.append) as saves:
        save = outcomes(False, True, False, False, False)
        heard = []
        for step in range(4):
            saves.submit(save, step)
            heard += [saves.wait(), saves.wait()]
        assert heard == [False, True, True, True, False, True, False, True]
        saves.submit(save, 4)
        with pytest.raises(UserError, match=r"the disk is full \(3 saves in a row failed\)"):
            saves.wait()
    assert said == ["the disk is full (training continues; the next save tries again)"] * 3


def test_a_save_without_a_copy_is_over_when_it_has_begun():
    with CheckpointWriter(FreeLock(), lambda message: None) as saves:
        save = outcomes(True, False)
        for expected in (True, False):
            saves.submit(save, 1, blocking=True)
            assert saves._in_progress.done()
            assert saves.wait() is expected


def test_an_error_elsewhere_leaves_no_save_half_done():
    goes_on, done = threading.Event(), []

    def fail():
        with CheckpointWriter(FreeLock(), pytest.fail) as saves:
            saves.submit(lambda: (goes_on.wait(PATIENCE_SECONDS), done.append("saved")), 1)
            threading.Timer(0.05, goes_on.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert done == ["saved"]


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
def test_a_copy_is_made_of_what_is_large_and_fits(wanted, size, free, expected):
    assert should_save_async(wanted, size, free) is expected
