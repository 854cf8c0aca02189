"""R6: a disk error (EACCES, EIO, EROFS, quota) or a lost run directory is never a success."""

from __future__ import annotations

import errno
import io
import os
import shutil

import pytest
import torch
from rich.console import Console

from llm_scratch.cli.progress import ProgressDisplay
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import checkpoint, files
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

from .conftest import assert_same_run, tiny, tree_hash

pytestmark = pytest.mark.usefixtures("quick")
ERRORS = ["EACCES", "EIO", "EROFS", "EDQUOT", "ENOSPC"]
OPERATIONS = ["make_folder", "write", "flush", "rename", "remove"]


class BrokenDisk(files.FileSystem):
    """A disk on which the `nth` use of one operation fails, and all later ones."""

    def __init__(self, operation, nth, error):
        def fail(*args):
            self.uses += 1
            if self.uses > nth:
                self.failed = True
                raise OSError(error, os.strerror(error))
            return working(*args)

        working, self.uses, self.failed = getattr(super(), operation), 0, False
        setattr(self, operation, fail)


def save(run, step):
    weights = {"weight": torch.full((4, 5), float(step))}
    return checkpoint.save(
        run,
        step,
        {},
        weights,
        {},
        {"step": step},
        lambda folder: files.atomic_write(folder / "t.json", "{}"),
        best=True,
    )


@pytest.mark.parametrize("name", ERRORS)
def test_r6_disk_error_is_never_reported_as_success(name, tmp_path, monkeypatch, measured):
    tried = succeeded = 0
    for operation in OPERATIONS:
        for nth in range(20):
            run = tmp_path / f"{operation} {nth}"
            for step in (1, 2, 3):
                save(run, step)
            before = tree_hash(run)
            disk = BrokenDisk(operation, nth, getattr(errno, name))
            with monkeypatch.context() as patch:
                patch.setattr(files, "filesystem", disk)
                try:
                    save(run, 4)
                    error = None
                except UserError as e:
                    error = e
            if not disk.failed:
                break  # the operation is used less often
            tried += 1
            found = checkpoint.load_latest(run, pytest.fail, prefer="latest").state["step"]
            if error is None:
                succeeded += 1
                assert operation == "remove", "only files that are no longer needed may remain"
                assert found == 4
            else:
                assert error.code == RESOURCES
                assert os.strerror(getattr(errno, name)) in str(error)
                assert found in (3, 4)
                after = tree_hash(run)
                assert all(
                    after.get(path) == digest for path, digest in before.items() if "step-" in path
                ), (operation, nth)
    assert tried > 20
    measured("R6", f"{name}: {tried} failed operations, 0 silent successes", "0 silent successes")


class Refuses(files.FileSystem):
    """A disk that accepts no more bytes of one file."""

    def __init__(self, name, error):
        self.name, self.error = name, error

    def append(self, file, place, data):
        if file.name.name == self.name:
            raise OSError(self.error, os.strerror(self.error))
        return super().append(file, place, data)


class RefusesFrom(Callback):
    """Simulate a disk that fails from one step on, and works again from another."""

    def __init__(self, monkeypatch, disk, again_from=None):
        self.monkeypatch, self.disk, self.again_from, self.warnings = (
            monkeypatch,
            disk,
            again_from,
            [],
        )

    def step(self, run, row):
        if run.step == 15:
            self.monkeypatch.setattr(files, "filesystem", self.disk)
        if run.step == self.again_from:
            self.monkeypatch.setattr(files, "filesystem", files.FileSystem())

    def warn(self, message):
        self.warnings.append(message)


@pytest.mark.parametrize("log_file", ["metrics.jsonl", "samples.md"])
@pytest.mark.parametrize("name", ["EIO", "EROFS"])
def test_r6_unwritable_metrics_or_samples_lose_no_rows(
    name, log_file, corpus, tmp_path, monkeypatch, measured
):
    """Check that no checkpoint is ahead of its rows, and that a temporary error loses nothing."""
    config, disk = tiny(sample_every=5), Refuses(log_file, getattr(errno, name))
    train(config, tmp_path / "whole", corpus=corpus)
    callback = RefusesFrom(monkeypatch, disk)
    with pytest.raises(
        UserError,
        match=rf"cannot write .*{log_file}: {os.strerror(disk.error)}.*3 saves in a row failed",
    ) as error:
        train(config, tmp_path / "for good", corpus=corpus, callbacks=[callback])
    assert error.value.code == RESOURCES
    assert (
        len(
            [
                line
                for line in callback.warnings
                if log_file in line and "lines are kept in memory" in line
            ]
        )
        == 1
    )
    assert checkpoint.load_latest(tmp_path / "for good", pytest.fail).state["step"] == 10
    monkeypatch.setattr(files, "filesystem", files.FileSystem())
    train(
        config,
        tmp_path / "for a while",
        corpus=corpus,
        callbacks=[RefusesFrom(monkeypatch, disk, again_from=35)],
    )
    for run in ("for good", "for a while"):
        train(config, tmp_path / run, corpus=corpus)
        assert_same_run(tmp_path / run, tmp_path / "whole")
    measured(
        "R6",
        f"{name} for {log_file}: one warning, exit code 6 after the 3rd failed save; complete log"
        " after recovery",
        "0 silent successes",
    )


@pytest.mark.parametrize("name", ["EIO", "EROFS"])
def test_r6_unwritable_log_causes_one_warning(name, corpus, tmp_path, monkeypatch, measured):
    """log.txt is optional: the run completes without it, with a warning."""
    console = Console(file=io.StringIO(), width=200, markup=False, highlight=False)
    disk = Refuses("log.txt", getattr(errno, name))

    class Both(ProgressDisplay):
        def step(self, run, row):
            if run.step == 15:
                monkeypatch.setattr(files, "filesystem", disk)
            super().step(run, row)

    with Both(console, every=0) as watch:
        run = train(tiny(), tmp_path, corpus=corpus, callbacks=[watch])
    assert run.step == 60
    warned = [
        line for line in console.file.getvalue().splitlines() if os.strerror(disk.error) in line
    ]
    assert ["lines are kept in memory" in line for line in warned] == [True, False]
    assert "log.txt: the last" in warned[1]
    measured(
        "R6",
        f"{name} for log.txt: one warning, and at the end what is missing; the run finishes",
        "0 silent successes",
    )


@pytest.mark.parametrize("what", ["removed", "moved", "recreated by another process"])
def test_r6_removed_run_directory_ends_the_run(what, corpus, tmp_path, measured):
    run_folder = tmp_path / "run"

    class Thief(Callback):
        def step(self, run, row):
            if run.step == 25:
                if what == "moved":
                    run.folder.rename(tmp_path / "elsewhere")
                else:
                    shutil.rmtree(run.folder)
                if what == "recreated by another process":
                    (run.folder / "ckpt").mkdir(parents=True)
                    (run.folder / "run.lock").write_text("{}")

    with pytest.raises(UserError, match="removed or moved during training") as error:
        train(tiny(), run_folder, corpus=corpus, callbacks=[Thief()])
    assert error.value.code == RESOURCES
    if what == "moved":
        assert checkpoint.load_latest(tmp_path / "elsewhere", pytest.fail).state["step"] == 20
    else:
        assert checkpoint.list_checkpoints(run_folder) == []
    measured("R6", f"run directory {what}: exit code 6 at the next save", "0 silent successes")
