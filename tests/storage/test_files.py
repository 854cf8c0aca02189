"""Atomic writes: a file or folder is complete or missing, whatever fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files
from llm_scratch.storage.files import (
    atomic_file,
    atomic_folder,
    atomic_write,
    is_new_or_empty,
    remove_leftovers,
    sha256_of,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_atomic_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    with atomic_file(path) as part:
        assert part.parent == path.parent
        assert part != path
        part.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize(
    ("data", "want"), [("žába\n", "žába\n".encode()), (b"\x00\xff\r\n", b"\x00\xff\r\n"), ("", b"")]
)
def test_atomic_write_writes_text_and_bytes(data, want, tmp_path):
    atomic_write(tmp_path / "file", data)
    atomic_write(str(tmp_path / "file"), data)
    assert (tmp_path / "file").read_bytes() == want


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, UserError])
def test_atomic_file_keeps_the_old_file_after_an_exception(raised, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half_write() -> None:
        with atomic_file(path) as part:
            part.write_text("ne")
            raise raised("w")

    with pytest.raises(raised):
        half_write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_atomic_write_keeps_the_old_file_on_a_full_disk(tmp_path):
    resource = pytest.importorskip(
        "resource", reason="needs a limit on file sizes, which Windows lacks"
    )
    path = tmp_path / "file"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(
            UserError, match="cannot write .*file: File too large; free disk space"
        ) as error:
            atomic_write(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == RESOURCES
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_atomic_file_removes_its_part_after_a_late_disk_error(call, tmp_path, monkeypatch):
    def broken(*args) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(UserError, match="Input/output error"):
        atomic_write(tmp_path / "file", "x")
    assert names(tmp_path) == []


def test_atomic_file_flushes_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    atomic_write(tmp_path / "file", "x")
    assert calls == [
        "fsync",
        "fsync",
        "replace",
        "fsync",
    ]  # the bytes as they are written, the file as a whole; then its name


def test_atomic_write_fails_when_the_folder_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="choose another folder") as error:
        atomic_write(tmp_path / "taken" / "file", "x")
    assert error.value.code == RESOURCES
    assert names(tmp_path) == ["taken"]


def test_atomic_file_uses_the_current_file_system(tmp_path, monkeypatch):
    class Talking(files.FileSystem):
        def __getattribute__(self, name):
            operations.append(name)
            return super().__getattribute__(name)

    operations = []
    monkeypatch.setattr(files, "filesystem", Talking())
    atomic_write(tmp_path / "file", "x")
    assert operations == ["make_folder", "write", "flush", "rename", "flush", "remove"]


def test_file_system_removes_files_folders_and_missing_paths(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "link", "nothing"):
        files.filesystem.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no test whether a process runs")
def test_remove_leftovers_keeps_files_of_running_processes(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    for name in (
        f".plot.png.{done.pid}.part",
        f".plot.png.{os.getpid()}.part",
        ".mine.part",
        "mine.1.part",
    ):
        (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([f".plot.png.{os.getpid()}.part", ".mine.part", "mine.1.part"])


@pytest.mark.parametrize("exists", [False, True])
def test_atomic_folder_appears_when_it_is_complete(exists, tmp_path):
    path = tmp_path / "a" / "run"
    if exists:
        path.mkdir(parents=True)
    with atomic_folder(path) as part:
        (part / "file").write_text("whole")
        assert not path.exists() or names(path) == []
    assert names(path.parent) == ["run"]
    assert (path / "file").read_text() == "whole"


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, UserError])
def test_atomic_folder_leaves_nothing_after_an_exception(raised, tmp_path):
    def half_write() -> None:
        with atomic_folder(tmp_path / "run") as part:
            (part / "file").write_text("ha")
            raise raised("lf")

    with pytest.raises(raised):
        half_write()
    assert names(tmp_path) == []


def test_atomic_folder_does_not_replace_a_folder_with_files(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("kept")
    with (
        pytest.raises(UserError, match="cannot write .*run: ") as error,
        atomic_folder(tmp_path / "run") as part,
    ):
        (part / "file").write_text("new")
    assert error.value.code == RESOURCES
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["mine"]


def test_is_new_or_empty_rejects_a_file_and_a_folder_with_files(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert [is_new_or_empty(tmp_path / name) for name in ("missing", "empty", "file", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert (
        sha256_of(tmp_path / "file")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2, B.1
