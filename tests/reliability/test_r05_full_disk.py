"""R5: a full disk, at any byte of a save, loses no existing checkpoint.

The third failed save in a row ends the run.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent import futures
from dataclasses import replace

import pytest
import torch
from effort import PATIENCE_SECONDS

from llm_scratch.config import to_dict
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import checkpoint, files
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.checkpoint_writer import CheckpointWriter
from llm_scratch.training.loop import train

from .conftest import assert_same_run, tiny, tree_hash

pytestmark = pytest.mark.usefixtures("quick")


class SmallDisk(files.FileSystem):
    """A disk of limited size in bytes, which writes as much of a file as fits."""

    def __init__(self, room):
        self.room = room

    def write(self, path, pieces):
        super().write(path, self._what_fits(pieces))

    def append(self, file, place, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().append(file, place, data[: self.room])
        self.room -= taken
        return taken

    def _what_fits(self, pieces):
        for piece in pieces:
            yield piece[: self.room]
            self.room -= len(piece)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def save(run, step):
    weights = {"weight": torch.full((40, 25), float(step)), "bias": torch.zeros(25)}
    optimizer = {"weight/exp_avg": torch.ones(40, 25)}
    return checkpoint.save(
        run,
        step,
        {},
        weights,
        optimizer,
        {"step": step},
        lambda folder: files.atomic_write(folder / "tokenizer.json", "{}"),
    )


def test_r5_old_checkpoint_survives_a_full_disk_at_any_byte(tmp_path, monkeypatch, measured):
    size = sum(path.stat().st_size for path in save(tmp_path, 1).iterdir())
    before = tree_hash(tmp_path)
    for number in range(50):
        with monkeypatch.context() as patch:
            patch.setattr(files, "filesystem", SmallDisk(number * size // 50))
            with pytest.raises(
                UserError, match=r"No space left on device \(need 7\.91 KiB, free [\d.]+ .iB\)"
            ) as error:
                save(tmp_path, 2)
        assert error.value.code == RESOURCES
        assert tree_hash(tmp_path) == before, f"full after {number * size // 50} bytes"
        assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == ["latest", "step-00000001"]
    save(tmp_path, 2)
    assert checkpoint.load_latest(tmp_path, pytest.fail).state["step"] == 2
    measured(
        "R5",
        "50 of 50: old checkpoint unchanged, no partial files, error with needed and free space",
        "50 of 50 byte positions",
    )


class FillsUp(Callback):
    """Simulate a disk that is full from one step on, and has space again from another."""

    def __init__(self, monkeypatch, full_from, free_from, room=3000):
        self.monkeypatch = monkeypatch
        self.full_from = full_from
        self.free_from = free_from
        self.room = room
        self.warnings = []
        self.under_way = []  # saves in the background
        begin = CheckpointWriter.submit

        def noted(saves, *args, **more):
            begin(saves, *args, **more)
            self.under_way.append(saves._in_progress)

        monkeypatch.setattr(CheckpointWriter, "submit", noted)

    @property
    def failed_saves(self):
        return [line for line in self.warnings if "the next save tries again" in line]

    def step(self, run, row):
        if run.step in (self.full_from, self.free_from):
            futures.wait(self.under_way)  # each save uses the disk at the time of its request
        if run.step == self.full_from:
            self.monkeypatch.setattr(files, "filesystem", SmallDisk(self.room))
        if run.step == self.free_from:
            self.monkeypatch.setattr(files, "filesystem", files.FileSystem())

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(params=["no", "yes"], ids=["waits", "background"])
def run_of(request):
    """`tiny` with blocking saves, and with background saves."""
    return lambda **changes: replace(
        tiny(**changes), system=replace(tiny().system, async_save=request.param)
    )


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_r5_third_failed_save_in_a_row_ends_the_run(
    room, run_of, corpus, tmp_path, monkeypatch, measured
):
    callback = FillsUp(monkeypatch, 15, None, room)
    with pytest.raises(
        UserError, match=r"step-00000040: .*No space left .*3 saves in a row failed"
    ) as error:
        train(run_of(), tmp_path, corpus=corpus, callbacks=[callback])
    assert error.value.code == RESOURCES
    assert len(callback.failed_saves) == 2
    assert len([line for line in callback.warnings if "lines are kept in memory" in line]) == 1
    assert checkpoint.load_latest(tmp_path, pytest.fail).state["step"] == 10
    measured(
        "R5",
        f"{room:,} bytes free: exit code 6 after the 3rd failed save, not before",
        "exit 6 after 3 failed saves",
    )


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_r5_temporarily_full_disk_loses_no_data(
    room, run_of, corpus, tmp_path, monkeypatch, measured
):
    config = run_of(sample_every=15)
    train(config, tmp_path / "whole", corpus=corpus)
    callback = FillsUp(monkeypatch, 15, 35, room)
    train(config, tmp_path / "run", corpus=corpus, callbacks=[callback])
    assert len(callback.failed_saves) == 2
    measured(
        "R5",
        f"full for 20 steps and 2 saves ({room:,} bytes free): weights, rows, samples identical in"
        " the end",
        "nothing lost",
    )
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_r5_best_names_only_a_saved_checkpoint(run_of, corpus, tmp_path, monkeypatch):
    """Let the validation loss fall at steps 20 and 40, while the save at 20 fails.

    The checkpoint `best` then equals `best` in the state, or neither exists.
    """
    monkeypatch.setattr(checkpoint, "MAX_KEPT", 9)
    train(run_of(), tmp_path, corpus=corpus, callbacks=[FillsUp(monkeypatch, 15, 25)])
    best = checkpoint.load_latest(tmp_path, pytest.fail, prefer="best").state
    assert best["best"] == best["last_eval"]["val_loss"]
    before, between = (
        checkpoint.read(tmp_path / "ckpt" / f"step-{step:08d}").state for step in (10, 30)
    )
    assert between["best"] == before["best"] > between["last_eval"]["val_loss"]


def test_r5_too_little_disk_space_is_an_error_before_the_first_step(corpus, tmp_path, monkeypatch):
    usage = type(checkpoint.shutil.disk_usage("."))
    monkeypatch.setattr(
        checkpoint.shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 20_000, 20_000)
    )

    class NoStep(Callback):
        def step(self, run, row):
            pytest.fail("it began")

    with pytest.raises(
        UserError,
        match=r"checkpoints of [\d.]+ KiB: need [\d.]+ KiB, free 19\.5 KiB; free disk space",
    ) as error:
        train(tiny(), tmp_path / "run", corpus=corpus, callbacks=[NoStep()])
    assert error.value.code == RESOURCES
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


ON_A_SMALL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from llm_scratch.storage import checkpoint
from llm_scratch.config import from_dict, RunConfig
from llm_scratch.errors import UserError
from llm_scratch.training.loop import train
from llm_scratch.training.callbacks import Callback
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(disk)], check=True)

class Fills(Callback):
    said = []
    def step(self, run, row):
        if run.step == 12:  # every byte is taken
            with open(disk / "ballast", "wb", buffering=0) as file:
                try:
                    while True: file.write(bytes(4096))
                except OSError as e:
                    assert e.errno == 28, e
    def warn(self, message):
        self.said.append(message)

config = from_dict(RunConfig, json.loads(sys.argv[2]))
def attempt(config, callback, name="run"):
    try:
        train(config, disk / name, callbacks=[callback])
        return 0, ""
    except UserError as e:
        return e.code, str(e)
full = attempt(config, Fills())
left = sorted(p.name for p in (disk / "run" / "ckpt").iterdir())
step = checkpoint.load_latest(disk / "run", print).state["step"]
(disk / "ballast").unlink()
again = attempt(config, Callback())
big = attempt(config.with_model(emb_dim=480), Callback(), "another")
print(json.dumps({"full": full, "warnings": Fills.said, "left": left, "step": step, "again": again,
    "end": checkpoint.load_latest(disk / "run", print).state["step"], "big": big}))
"""


def test_r5_full_tmpfs_of_20_mb_loses_no_data(tmp_path, measured):
    """Fill a real file system that only one process sees."""
    unshare = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    )
    try:
        allowed = subprocess.run(
            [*unshare, "mount", "-t", "tmpfs", "none", str(tmp_path)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("needs Linux's unshare")
    if allowed.returncode:
        pytest.skip(f"needs to be allowed to mount a disk: {allowed.stderr.strip()}")
    (tmp_path / "disk").mkdir()
    text = tmp_path / "letters.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 40)
    config = to_dict(
        tiny(epochs=None, steps=60, eval_every=60).with_model(emb_dim=168, n_heads=3)
    )  # 4.2 MB per checkpoint
    config["data"]["source"] = f"file:{text}"
    command = [
        *unshare,
        sys.executable,
        "-c",
        ON_A_SMALL_DISK,
        str(tmp_path / "disk"),
        json.dumps(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["full"][0] == RESOURCES
    assert "step-00000040" in result["full"][1]
    assert "No space left on device (need 3.9" in result["full"][1]
    assert len([line for line in result["warnings"] if "the next save tries again" in line]) == 2
    assert any(
        "metrics.jsonl: No space left on device; its lines are kept in memory" in line
        for line in result["warnings"]
    )
    assert result["left"] == ["latest", "step-00000010"]
    assert (result["step"], result["again"][0], result["end"]) == (10, 0, 60)
    assert result["big"][0] == RESOURCES
    assert "too little disk space for checkpoints of 32 MiB" in result["big"][1]
    measured(
        "R5",
        "a real disk of 20 MB, completely full: exit code 6, the old checkpoint loads, the run"
        " resumes once there is space",
        "20 MB tmpfs: nothing lost",
    )
