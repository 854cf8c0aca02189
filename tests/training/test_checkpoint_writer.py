"""Failed saves: training continues after two, and ends with the third in a row or when the last save fails."""

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


def test_writer_warns_and_continues_after_a_failed_save(pauses):
    said = []
    saves = CheckpointWriter(FreeLock(), said.append)
    save = outcomes(True, False, False, True, False, False, True)
    assert [saves.write(save, step, last=False) for step in range(7)] == [True, False, False, True, False, False, True]
    assert said == ["the disk is full (training continues; the next save tries again)"] * 4
    assert pauses == []


def test_writer_raises_after_three_consecutive_failures(pauses):
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    save = outcomes(False, False, False)
    assert not saves.write(save, 1, last=False)
    assert not saves.write(save, 2, last=False)
    with pytest.raises(UserError, match=r"the disk is full \(3 saves in a row failed\)") as error:
        saves.write(save, 3, last=False)
    assert error.value.code == RESOURCES


@pytest.mark.parametrize(("row", "ends_well"), [((False, True), True), ((False, False, True), True), ((False, False, False), False)])
def test_writer_retries_the_last_save_three_times(row, ends_well, pauses):
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    if ends_well:
        assert saves.write(outcomes(*row), 9, last=True)
    else:
        with pytest.raises(UserError, match="3 saves in a row failed"):
            saves.write(outcomes(*row), 9, last=True)
    assert pauses == [checkpoint_writer.RETRY_DELAY_SECONDS] * (len(row) - 1)


def test_writer_raises_at_once_for_other_errors():
    def save():
        raise UserError("something else", CHECKPOINT)

    with pytest.raises(UserError, match="something else"):
        CheckpointWriter(FreeLock(), pytest.fail).write(save, 1, last=False)


def test_writer_raises_at_once_when_the_run_directory_is_gone():
    class LostLock:
        def check(self):
            raise UserError("it was removed", RESOURCES)

    with pytest.raises(UserError, match="it was removed"):
        CheckpointWriter(LostLock(), pytest.fail).write(pytest.fail, 1, last=False)


def test_writer_injects_a_full_disk_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "save:4:enospc")
    real = files.filesystem
    saves = CheckpointWriter(FreeLock(), lambda message: None)
    done = [saves.write(lambda: files.atomic_write(tmp_path / "file", "x"), step, last=False) for step in (3, 4, 4)]
    assert done == [True, False, True]
    assert files.filesystem is real


def test_async_save_blocks_only_in_wait():
    goes_on, done = threading.Event(), []
    with CheckpointWriter(FreeLock(), pytest.fail) as saves:
        saves.submit(lambda: (goes_on.wait(PATIENCE_SECONDS), done.append("saved")), 1)
        assert done == []
        goes_on.set()
        assert saves.wait()
        assert done == ["saved"]
        assert saves.wait(), "nothing is under way"


def test_writer_wait_reports_each_failure_once():
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


def test_blocking_save_is_done_when_submit_returns():
    with CheckpointWriter(FreeLock(), lambda message: None) as saves:
        save = outcomes(True, False)
        for expected in (True, False):
            saves.submit(save, 1, blocking=True)
            assert saves._in_progress.done()
            assert saves.wait() is expected


def test_writer_finishes_the_save_on_an_error_in_the_block():
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
def test_async_save_is_chosen_for_large_states_that_fit_in_memory(wanted, size, free, expected):
    assert should_save_async(wanted, size, free) is expected
