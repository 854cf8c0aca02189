"""Choose the device to run on: a CUDA device, Apple's MPS, or the CPU.

Tests: tests/hardware/test_device.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llm_scratch.errors import UserError
from llm_scratch.formatting import counted


@dataclass(frozen=True)
class DeviceChoice:
    """A device of torch, and why it was chosen.

    Attributes:
        name: such as "cpu", "cuda:1".
        description: what it is and why it was chosen, such as "cpu, 8 threads (as requested)".
    """

    name: str
    description: str

    def __str__(self) -> str:
        return self.description


def choose_device(requested: str = "auto") -> DeviceChoice:
    """The device to run on.

    Args:
        requested: "auto" (a CUDA device, else Apple's MPS, else the CPU), or a torch device such as
            "cpu", "cuda:1", "mps".
    Raises:
        UserError: this machine, or this build of torch, has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    fastest = "cuda" if cuda else "mps" if mps else "cpu"
    name = fastest if requested == "auto" else requested
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError as e:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, mps") from e
    available = {"cpu": True, "cuda": cuda and index < torch.cuda.device_count(), "mps": mps}
    if not available.get(kind, False):
        raise UserError(
            f"no device {name!r} here (torch {torch.__version__});"
            " auto takes what there is, `llm-scratch doctor` lists it"
        )
    if kind == "cpu":
        threads = torch.get_num_threads()
        reason = "as requested" if requested != "auto" else "no CUDA or MPS device here"
        return DeviceChoice(name, f"cpu, {counted(threads, 'thread')} ({reason})")
    model = torch.cuda.get_device_name(index) if kind == "cuda" else "Apple GPU"
    reason = "as requested" if requested != "auto" else "the fastest here"
    return DeviceChoice(name, f"{name}, {model} ({reason})")
