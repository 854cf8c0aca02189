"""Loading a checkpoint returns what was saved, and every damage is detected.

A failed save keeps the old one.
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from effort import PATIENCE_SECONDS
from torch import nn

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.storage import checkpoint, files, manifest

FILES = [
    "model.safetensors",
    "optim.safetensors",
    "state.json",
    "config.json",
    "tokenizer.json",
    "manifest.json",
]


def tensors(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "a.weight": torch.randn(5, 3, generator=generator),
        "b": torch.randn(7, generator=generator),
    }


def save(run, step, best=False, **changes):
    parts = {
        "config": {"model": {"emb_dim": 3}},
        "weights": tensors(step),
        "optimizer": {"a.weight/exp_avg": tensors(step + 100)["a.weight"]},
        "state": {"step": step, "best": 2.5 - step / 100},
        "write_tokenizer": (
            lambda folder: (folder / "tokenizer.json").write_text(f'{{"step": {step}}}')
        ),
    }
    return checkpoint.save(run, step, best=best, **(parts | changes))


def tree(folder):
    """Every file under a folder with its hash."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Skip disk flushes, which tests/reliability/ covers."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def not_called(message):
    raise AssertionError(message)


def test_checkpoint_read_returns_what_was_saved(tmp_path):
    folder = save(tmp_path, 7)
    found = checkpoint.load_latest(tmp_path, not_called)
    assert found.folder == folder == tmp_path / "ckpt" / "step-00000007"
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert found.config == {"model": {"emb_dim": 3}}
    assert found.state == {"step": 7, "best": 2.43}
    assert found.weights.keys() == tensors(7).keys()
    assert all(torch.equal(found.weights[name], value) for name, value in tensors(7).items())
    assert torch.equal(found.optimizer["a.weight/exp_avg"], tensors(107)["a.weight"])
    assert (tmp_path / "ckpt" / "latest").read_text() == "step-00000007\n"
    assert not (tmp_path / "ckpt" / "best").exists()


def test_manifest_has_size_and_sha256_of_every_file(tmp_path):
    folder = save(tmp_path, 3)
    content = json.loads((folder / "manifest.json").read_text())
    assert (content["format"], content["step"]) == (manifest.FORMAT, 3)
    want = {
        n: {"bytes": (folder / n).stat().st_size, "sha256": digest}
        for n, digest in tree(folder).items()
        if n != "manifest.json"
    }
    assert content["files"] == want


def test_checkpoint_folder_keeps_and_marks_the_two_newest_and_the_best(tmp_path):
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step, best=step == 2)
    assert [f.name[-1] for f in checkpoint.list_checkpoints(tmp_path)] == ["5", "4", "2"]
    assert checkpoint.load_latest(tmp_path, not_called).state["step"] == 5
    assert checkpoint.load_latest(tmp_path, not_called, prefer="best").state["step"] == 2
    assert checkpoint.load_latest(tmp_path, not_called, prefer="latest").state["step"] == 5


def test_load_latest_is_none_without_checkpoints(tmp_path):
    assert checkpoint.load_latest(tmp_path, not_called) is None
    (tmp_path / "ckpt" / "step-00000004.tmp-17").mkdir(parents=True)  # a save that was cut off
    assert checkpoint.load_latest(tmp_path, not_called) is None


@pytest.mark.parametrize("garbage", ["step-00000009\n", "", "../../elsewhere", "\0"])
def test_load_latest_ignores_a_dangling_pointer(tmp_path, garbage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    for pointer in ("latest", "best"):
        (tmp_path / "ckpt" / pointer).write_text(garbage)
        assert checkpoint.load_latest(tmp_path, not_called, prefer=pointer).state["step"] == 2


def flip(path, other):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def zero_tail(path, other):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


DAMAGE = {
    "bit flip": flip,
    "truncation": lambda path, other: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path, other: os.truncate(path, 0),
    "zero tail": zero_tail,
    "missing": lambda path, other: path.unlink(),
    "swapped": lambda path, other: path.write_bytes(other.read_bytes()),
    "extra byte": lambda path, other: path.write_bytes(path.read_bytes() + b"\1"),
    "a folder instead": lambda path, other: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_detected_and_the_older_checkpoint_loaded(tmp_path, name, kind):
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    if name == "config.json" and kind == "swapped":
        (old / name).write_text("{}")  # both hold the same settings; only then are they different
        shutil.copy(old / name, tmp_path / "other")
        DAMAGE[kind](new / name, tmp_path / "other")
        (old / name).write_text(json.dumps({"model": {"emb_dim": 3}}, indent=1))
    else:
        DAMAGE[kind](new / name, old / name)
    warnings = []
    found = checkpoint.load_latest(tmp_path, warnings.append, prefer="latest")
    assert found.state["step"] == 1
    assert torch.equal(found.weights["b"], tensors(1)["b"])
    assert len(warnings) == 1
    assert "step-00000002" in warnings[0]
    assert "quarantine" in warnings[0]
    assert (tmp_path / "ckpt" / "quarantine" / "step-00000002").is_dir()
    assert not new.exists()


def test_verify_finds_an_unlisted_file(tmp_path):
    folder = save(tmp_path, 1)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert checkpoint.verify(folder) == "pytorch_model.bin is not in the manifest"


def test_verify_finds_a_checkpoint_under_another_name(tmp_path):
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    shutil.rmtree(new)
    shutil.copytree(old, new)
    assert checkpoint.verify(new) == "it is the checkpoint of step 1"
    shutil.copytree(old, tmp_path / "my favourite")
    assert checkpoint.verify(tmp_path / "my favourite") is None


def test_newer_format_is_rejected_and_not_moved(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(manifest, "FORMAT", 99)
    folder = save(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=r"step-00000002 has format 99, .*newer.* update this program"
    ) as error:
        checkpoint.load_latest(tmp_path, not_called)
    assert error.value.code == CHECKPOINT
    assert folder.is_dir()


@pytest.mark.parametrize("claimed", [1, manifest.FORMAT + 1])
def test_invalid_format_number_is_damage(tmp_path, claimed):
    save(tmp_path, 1)
    folder = save(tmp_path, 2)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(
        text.replace(f'"format": {manifest.FORMAT}', f'"format": {claimed}')
    )
    warnings = []
    assert checkpoint.load_latest(tmp_path, warnings.append).state["step"] == 1
    assert "manifest.json changed since it was written" in warnings[0]


def test_load_latest_fails_when_all_checkpoints_are_damaged(tmp_path):
    for step in (1, 2):
        flip(save(tmp_path, step) / "model.safetensors", None)
    for _ in "twice":
        with pytest.raises(UserError, match=r"step-00000001, step-00000002.*--fresh") as error:
            checkpoint.load_latest(tmp_path, lambda message: None)
        assert error.value.code == CHECKPOINT


def test_reading_a_damaged_checkpoint_by_name_is_an_error(tmp_path):
    folder = save(tmp_path, 1)
    flip(folder / "model.safetensors", None)
    with pytest.raises(
        UserError, match=r"model\.safetensors changed since it was written"
    ) as error:
        checkpoint.read(folder)
    assert error.value.code == CHECKPOINT


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_values_are_refused(tmp_path, number):
    save(tmp_path, 1)
    save(tmp_path, 2, weights=tensors(2) | {"b": torch.tensor([1.0, number])})
    warnings = []
    assert checkpoint.load_latest(tmp_path, warnings.append).state["step"] == 1
    assert "b has values that are not finite" in warnings[0]


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(*args, **kwargs):
    raise FULL


@pytest.mark.parametrize("fault", ["make_folder", "write", "flush", "rename", "tokenizer"])
def test_save_on_a_full_disk_keeps_only_the_old_checkpoint(tmp_path, monkeypatch, fault):
    save(tmp_path, 1, best=True)
    before = tree(tmp_path)
    changes = {"write_tokenizer": refuse} if fault == "tokenizer" else {}
    with monkeypatch.context() as patch:
        if not changes:
            patch.setattr(files.filesystem, fault, refuse)
        with pytest.raises(
            UserError,
            match=(
                r"cannot save the checkpoint .*: No space left on device \(need 148 B, free .*free"
                r" disk space"
            ),
        ) as error:
            save(tmp_path, 2, best=True, **changes)
    assert error.value.code == RESOURCES
    assert tree(tmp_path) == before
    assert [p.name for p in (tmp_path / "ckpt").iterdir() if p.is_dir()] == ["step-00000001"]
    save(tmp_path, 2)
    assert checkpoint.load_latest(tmp_path, not_called).state["step"] == 2


def test_checkpoint_on_a_really_full_disk(tmp_path):
    """Limit files to 4 kB, in a process of its own, since the limit cannot be raised again."""
    save(tmp_path, 1)
    before = tree(tmp_path)
    pytest.importorskip(
        "resource", reason="needs a limit on the size of files, which Windows does not have"
    )
    script = """
import resource, sys, torch
from pathlib import Path
from llm_scratch.storage import checkpoint, files, manifest
from llm_scratch.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
weights = {"w": torch.zeros(10_000)}
try:
    checkpoint.save(Path(sys.argv[1]), 2, {}, weights, {}, {}, lambda folder: None)
except UserError as e:
    print(e.code, e)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout.startswith(f"{RESOURCES} cannot save the checkpoint"), done.stderr
    assert tree(tmp_path) == before


def test_save_removes_partial_files_of_a_killed_save(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "ckpt" / "step-00000002.tmp-17").mkdir()
    (tmp_path / "ckpt" / "step-00000002.tmp-17" / "model.safetensors").write_bytes(b"half")
    (tmp_path / "ckpt" / ".latest.17.part").write_text("step-0")
    save(tmp_path, 2)
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == [
        "latest",
        "step-00000001",
        "step-00000002",
    ]


def test_save_replaces_the_checkpoint_of_an_interrupted_save_before_other_steps(tmp_path):
    """A run killed before `latest` may continue from the older checkpoint with other settings."""
    save(tmp_path, 1)
    stale = save(tmp_path, 2)
    (tmp_path / "ckpt" / "latest").write_text("step-00000001\n")
    save(tmp_path, 2, weights=tensors(9), state={"step": 2, "best": 1.0})
    found = checkpoint.load_latest(tmp_path, not_called)
    assert found.folder == stale
    assert found.state == {"step": 2, "best": 1.0}
    assert torch.equal(found.weights["b"], tensors(9)["b"])


def test_save_after_a_failure_keeps_the_checkpoint_that_is_written(tmp_path):
    before = (save(tmp_path, 2) / "model.safetensors").stat().st_ino
    assert (save(tmp_path, 2, best=True) / "model.safetensors").stat().st_ino == before
    assert (tmp_path / "ckpt" / "best").read_text() == "step-00000002\n"


def evaluated(step, loss, best):
    return {"step": step, "best": best, "last_eval": {"step": step, "val_loss": loss}}


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ((1.0, 1.0), (0.9, 0.9), 2),  # lower
        ((1.0, 1.0), (1.1, 1.0), 1),  # higher
        ((1.0, 1.0), (1.0, 1.0), 1),  # equal: the first remains the best
        (None, (1.0, 1.0), 2),
    ],
)
def test_complete_save_marks_the_best_as_a_save_does(tmp_path, first, second, named):
    if first is not None:
        save(tmp_path, 1, best=True, state=evaluated(1, *first))
    save(tmp_path, 2, state=evaluated(2, *second))
    (tmp_path / "ckpt" / "latest").unlink()
    (tmp_path / "ckpt" / ".best.1.part").touch()
    checkpoint.complete_save(tmp_path, checkpoint.load_latest(tmp_path, not_called))
    pointers = [(tmp_path / "ckpt" / name).read_text() for name in ("latest", "best")]
    assert pointers == ["step-00000002\n", f"step-0000000{named}\n"]
    assert not list((tmp_path / "ckpt").glob(".*"))


def test_complete_save_after_an_older_checkpoint_keeps_a_better_best(tmp_path):
    save(tmp_path, 1, best=True, state=evaluated(1, 1.0, 1.0))
    save(tmp_path, 2, best=True, state=evaluated(2, 0.9, 0.9))
    older = checkpoint.read(tmp_path / "ckpt" / "step-00000001")
    checkpoint.complete_save(tmp_path, older)
    assert (tmp_path / "ckpt" / "best").read_text() == "step-00000002\n"


def test_load_latest_skips_a_damaged_checkpoint_that_cannot_be_moved(tmp_path, monkeypatch):
    save(tmp_path, 1)
    flip(save(tmp_path, 2) / "model.safetensors", None)
    before, warnings = tree(tmp_path), []
    monkeypatch.setattr(files.filesystem, "rename", refuse)
    assert checkpoint.load_latest(tmp_path, warnings.append).state["step"] == 1
    assert "it cannot be moved" in warnings[0]
    assert tree(tmp_path) == before


def test_verify_reports_a_read_error_as_damage(tmp_path, monkeypatch):
    folder = save(tmp_path, 1)

    def broken(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(files, "sha256_of", broken)
    assert checkpoint.verify(folder) == "config.json cannot be read (Input/output error)"


def test_check_disk_space_rejects_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**7, 6 * 10**6, 4 * 10**6)
    )
    checkpoint.check_disk_space(tmp_path / "not" / "yet", 10**6)
    with pytest.raises(
        UserError,
        match=(
            r"checkpoints of 1\.05 MiB: need 4\.2 MiB, free 3\.81 MiB; free disk space, or choose"
            r" another --out"
        ),
    ) as error:
        checkpoint.check_disk_space(tmp_path, 1_100_000)
    assert error.value.code == RESOURCES
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "what is there").write_bytes(bytes(500_000))
    checkpoint.check_disk_space(tmp_path, 1_100_000)


def test_ctrl_c_inside_a_save_leaves_no_partial_checkpoint(tmp_path):
    def interrupt(folder):
        raise KeyboardInterrupt

    save(tmp_path, 1)
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, write_tokenizer=interrupt)
    assert tree(tmp_path) == before
    assert len(list((tmp_path / "ckpt").iterdir())) == 2  # step-00000001 and latest


def test_old_checkpoints_are_deleted_only_after_the_new_one_is_complete(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, step)

    def check(run):
        assert checkpoint.verify(run / "ckpt" / "step-00000003") is None
        assert (run / "ckpt" / "latest").read_text() == "step-00000003\n"
        raise KeyboardInterrupt  # a crash between save and delete

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_prune", check)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
    assert len(checkpoint.list_checkpoints(tmp_path)) == 3
    assert checkpoint.load_latest(tmp_path, not_called).state["step"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"weight": w["weight"]}, "here: bias is missing"),
        (lambda w: w | {"gate": w["bias"]}, "here: unknown tensor gate"),
        (lambda w: w | {"bias": torch.zeros(4)}, r"here: bias is \(4,\), the model has \(2,\)"),
        (
            lambda w: w | {"weight": torch.zeros(3, 2)},
            r"here: weight is \(3, 2\), the model has \(2, 3\)",
        ),
    ],
    ids=["missing", "unknown", "shape", "transposed"],
)
def test_weights_are_loaded_all_or_none(change, message):
    model = nn.Linear(3, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        checkpoint.set_weights(
            model, change({name: torch.ones_like(t) for name, t in before.items()}), "here"
        )
    assert error.value.code == CHECKPOINT
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
