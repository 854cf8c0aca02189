"""R6: a disk that refuses (EACCES, EIO, EROFS, quota) or a run directory that goes away is never taken for success."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
import torch

from llm_scratch import checkpoint, files
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.training.loop import train
from llm_scratch.training.records import Watcher

from .conftest import tiny, tree_hash

pytestmark = pytest.mark.usefixtures("quick")
ERRORS = ["EACCES", "EIO", "EROFS", "EDQUOT", "ENOSPC"]
OPERATIONS = ["make_folder", "write", "flush", "rename", "remove"]


class BrokenDisk(files.Disk):
    """A disk whose `nth` use of one operation fails, and all after it."""

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
    return checkpoint.save(run, step, {}, weights, {}, {"step": step}, lambda folder: files.write_whole(folder / "t.json", "{}"), best=True)


@pytest.mark.parametrize("name", ERRORS)
def test_r6_an_error_of_the_disk_is_never_a_success(name, tmp_path, monkeypatch, measured):
    tried = succeeded = 0
    for operation in OPERATIONS:
        for nth in range(20):
            run = tmp_path / f"{operation} {nth}"
            for step in (1, 2, 3):
                save(run, step)
            before = tree_hash(run)
            disk = BrokenDisk(operation, nth, getattr(errno, name))
            with monkeypatch.context() as patch:
                patch.setattr(files, "disk", disk)
                try:
                    save(run, 4)
                    said = None
                except UserError as e:
                    said = e
            if not disk.failed:
                break  # the operation is not used so often
            tried += 1
            found = checkpoint.newest(run, pytest.fail, prefer="latest").state["step"]
            if said is None:
                succeeded += 1
                assert operation == "remove", "only what is not needed any more may stay"
                assert found == 4
            else:
                assert said.code == RESOURCES
                assert os.strerror(getattr(errno, name)) in str(said)
                assert found in (3, 4)
                after = tree_hash(run)
                assert all(after.get(path) == digest for path, digest in before.items() if "step-" in path), (operation, nth)
    assert tried > 20
    measured("R6", f"{name}: {tried} places, 0 silent successes", "0 silent successes")


@pytest.mark.parametrize("what", ["removed", "moved", "made anew by another"])
def test_r6_a_run_directory_that_goes_away_ends_the_run(what, corpus, tmp_path, measured):
    run_folder = tmp_path / "run"

    class Thief(Watcher):
        def step(self, run, row):
            if run.step == 25:
                if what == "moved":
                    run.folder.rename(tmp_path / "elsewhere")
                else:
                    shutil.rmtree(run.folder)
                if what == "made anew by another":
                    (run.folder / "ckpt").mkdir(parents=True)
                    (run.folder / "run.lock").write_text("{}")

    with pytest.raises(UserError, match="was removed or moved while it was trained in") as error:
        train(tiny(), run_folder, corpus=corpus, watcher=Thief())
    assert error.value.code == RESOURCES
    if what == "moved":
        assert checkpoint.newest(tmp_path / "elsewhere", pytest.fail).state["step"] == 20
    else:
        assert checkpoint.folders(run_folder) == []
    measured("R6", f"run directory {what}: exit code 6 at the next save", "0 silent successes")
