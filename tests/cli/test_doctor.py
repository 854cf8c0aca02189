"""`doctor` reports what this machine has, and a command for everything that is missing."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from llm_scratch.cli.commands import doctor
from llm_scratch.storage.user_folders import LIBRARY_FOLDERS


def test_doctor_reports_every_check(llm):
    result = llm("doctor")
    assert result.code == 0
    for what in (
        "llm-scratch",
        "torch",
        "device",
        "threads",
        "memory",
        "disk",
        "data folder",
        "cache",
        "verdict",
        "gpt2",
        "transformers",
    ):
        assert re.search(rf"[✓✗] +{what} ", result.out), what
    assert torch.__version__ in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_doctor_names_the_command_for_everything_missing(llm, monkeypatch, tmp_path):
    for name in ("LLM_SCRATCH_DATA", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(
        doctor, "_version", lambda package: None if package == "transformers" else "1.0"
    )
    monkeypatch.setattr("llm_scratch.hardware.memory.free_memory", lambda: 2**20)
    out = " ".join(llm("doctor").out.split())  # a long path to Python wraps
    for command in (
        "data download verdict",
        "data download shakespeare",
        "data download gpt2",
        "pip install transformers",
        "close other programs",
    ):
        assert f"→ {command}" in out or f" {command}" in out, command
    assert "5 things could be better; `llm-scratch train quickstart` needs none of them." in out


def test_doctor_reinstalls_a_cpu_torch_when_there_is_an_nvidia_driver(llm, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "NVIDIA", tmp_path / "version")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr(doctor, "_version", lambda package: "2.13.0+cpu")
    fix = "install --force-reinstall torch==2.13.0"
    assert "--force-reinstall" not in llm("doctor").out
    (tmp_path / "version").touch()
    out = " ".join(llm("doctor").out.split())
    assert "there is an NVIDIA driver, but torch" in out
    assert doctor._without_gpu(None)[1] == f"{sys.executable} -m pip {fix}"
    monkeypatch.setattr("torch.version.cuda", "12.6")
    out = " ".join(llm("doctor").out.split())
    assert "no GPU that CUDA 12.6 can use → nvidia-smi" in out
    assert "--force-reinstall" not in out


def test_doctor_commands_name_the_running_python(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    fixes = [row.fix for rows in (doctor._python(), doctor._packages()) for row in rows if row.fix]
    assert len(fixes) == len(doctor.CORE) + sum(
        len(extra.packages) for extra in doctor.EXTRAS.values()
    )
    assert all(fix.startswith(f"{sys.executable} -m pip install ") for fix in fixes)


def no_home(monkeypatch, tmp_path):
    """A user number without an account, with a temporary folder of the test's own."""
    pwd = pytest.importorskip("pwd", reason="Windows has no user ids")

    def unknown(*_):
        raise KeyError("uid not found")

    for name in (
        "HOME",
        "USER",
        "LOGNAME",
        "LNAME",
        "USERNAME",
        "XDG_CACHE_HOME",
        "LLM_SCRATCH_CACHE",
        *LIBRARY_FOLDERS,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        os, "environ", os.environ.copy()
    )  # what the command sets is gone afterwards
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_doctor_shows_the_fallback_cache_when_there_is_no_home_folder(llm, monkeypatch, tmp_path):
    no_home(monkeypatch, tmp_path)
    result = llm("doctor")
    assert (result.code, result.err) == (0, "")
    message = (
        f"{tmp_path}/llm-scratch-{os.getuid()} (this user has no home folder;"
        " set LLM_SCRATCH_CACHE to choose another)"
    )
    assert message.replace(" ", "") in "".join(result.out.split())  # a long path wraps
    assert llm("data", "list").code == 0


def test_doctor_names_the_variable_to_set_when_no_cache_folder_is_writable(
    llm, monkeypatch, tmp_path
):
    no_home(monkeypatch, tmp_path / "not there")
    result = llm("doctor")
    assert (result.code, result.err) == (0, "")
    assert "✗  cache" in result.out
    assert "→ export LLM_SCRATCH_CACHE=FOLDER" in result.out
    assert "transformers" in result.out, "the other checks are still reported"


def test_doctor_names_the_variable_to_set_when_the_cache_folder_is_read_only(
    llm, monkeypatch, tmp_path
):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    assert "✓  cache" in llm("doctor").out
    may = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and may(path, mode))
    result = llm("doctor")
    assert (result.code, result.err) == (0, "")
    assert "✗  cache" in result.out
    assert "isread-only:trialsarerepeated,newdownloadsfail" in "".join(result.out.split())
    assert "→ export LLM_SCRATCH_CACHE=FOLDER" in result.out


def test_doctor_with_a_run_names_runs_diagnose(llm):
    result = llm("doctor", "my run")
    assert (result.code, result.out) == (2, "")
    assert (
        result.err
        == "llm-scratch: doctor: unexpected argument 'my run'; to check a run: llm-scratch runs"
        " diagnose 'my run'\n"
    )
