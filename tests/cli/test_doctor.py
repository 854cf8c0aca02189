"""The report: what is there, and for all that is missing a command."""

from __future__ import annotations

import re

import torch

from llm_scratch.cli import doctor


def test_it_reports_and_ends_well(llm):
    result = llm("doctor")
    assert result.code == 0
    for what in ("llm-scratch", "torch", "device", "threads", "memory", "disk", "data folder", "cache", "verdict", "gpt2", "transformers"):
        assert re.search(rf"[✓✗] +{what} ", result.out), what
    assert torch.__version__ in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_what_is_missing_has_the_command_that_mends_it(llm, monkeypatch, tmp_path):
    for name in ("LLM_SCRATCH_DATA", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "transformers" else "1.0")
    monkeypatch.setattr("llm_scratch.training.machine.free_memory", lambda: 2**20)
    out = llm("doctor").out
    for command in ("data get verdict", "data get shakespeare", "data get gpt2", "pip install 'llm-scratch[hf]'", "close other programs"):
        assert f"→ {command}" in out or f" {command}" in out, command
    assert "5 things could be better; `llm-scratch train quickstart` needs none of them." in " ".join(out.split())
