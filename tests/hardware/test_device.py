"""The choice of a device, and its reason."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.hardware.device import choose_device


def here(monkeypatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a card")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "name"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_auto_chooses_the_fastest_available(cuda, mps, name, monkeypatch):
    here(monkeypatch, cuda, mps)
    choice = choose_device("auto")
    assert choice.name == name
    assert name in choice.description


def test_device_description_of_a_cpu_has_threads_and_reason(monkeypatch):
    here(monkeypatch, False, False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert str(choose_device("auto")) == "cpu, 1 thread (no CUDA or MPS device here)"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert str(choose_device("cpu")) == "cpu, 2 threads (as requested)"


def test_missing_device_is_an_error(monkeypatch):
    here(monkeypatch, True, False)
    assert choose_device("cuda:0").name == "cuda:0"
    for name in ("cuda:1", "mps", "meta"):
        with pytest.raises(UserError, match=f"no device '{name}' here"):
            choose_device(name)
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        choose_device("gpu")
