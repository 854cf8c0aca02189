"""Fault injection for tests, from the variable LLM_SCRATCH_FAULT; each fault fires once.

    LLM_SCRATCH_FAULT=step:17:nan,save:20:kill llm-scratch train quickstart

A fault is `place:step:kind`; several are separated by commas. A suffix `@1` limits it to rank 1 of
a torchrun job. A fault is removed from the variable when it fires, so list it twice to have it
twice. Training takes one hook, `train(..., inject_fault=inject_requested)`, and by default none.
Tests: tests/training/test_fault_injection.py.
"""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.storage import files
from llm_scratch.training.distributed import local_shard

VARIABLE = "LLM_SCRATCH_FAULT"
KINDS = {
    "step": ("nan", "inf", "-inf", "spike"),  # the loss of a step
    "gradient": ("nan", "inf", "-inf"),  # one element of a step's gradient
    "save": ("kill", "enospc"),  # of the process, or a full disk, while a checkpoint is written
}
FACTORS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "spike": 1000.0}  # of a loss

FaultHook = Callable[[int, nn.Module | None], AbstractContextManager[None]]
"""Wraps what may fail at a step, counted from 1.

That is its forward and backward pass by the module that returns the loss, or, with None, the
writing of its checkpoint.
"""


def no_fault(step: int, model: nn.Module | None = None) -> AbstractContextManager[None]:
    """Inject nothing."""
    return nullcontext()


def inject_requested(step: int, model: nn.Module | None = None) -> AbstractContextManager[None]:
    """Inject the faults that LLM_SCRATCH_FAULT requests for a step; see `FaultHook`."""
    if model is None:
        return _failing_disk(requested_fault("save", step))
    return _bad_values(model, requested_fault("step", step), requested_fault("gradient", step))


def requested_fault(place: str, step: int) -> str | None:
    """The kind of fault that is requested for this place and step, or None; each fires once."""
    if VARIABLE not in os.environ:
        return None
    faults = [fault for fault in os.environ[VARIABLE].split(",") if fault]
    for fault in faults:
        fault_place, fault_step, kind, rank = _parse(fault)
        if (fault_place, fault_step) == (place, step) and rank in ("", os.environ.get("RANK", "0")):
            faults.remove(fault)
            os.environ[VARIABLE] = ",".join(faults)
            return kind
    return None


def _parse(fault: str) -> tuple[str, int, str, str]:
    """Split a fault into place, step, kind and rank.

    Raises:
        UserError: it is malformed; lists the valid forms.
    """
    place, _, rest = fault.partition(":")
    step, _, rest = rest.partition(":")
    kind, _, rank = rest.partition("@")
    if kind not in KINDS.get(place, ()) or not step.isdigit():
        known = ", ".join(f"{place}:STEP:{'|'.join(kinds)}" for place, kinds in KINDS.items())
        raise UserError(f"{VARIABLE} has {fault!r}; expected {known}")
    return place, int(step), kind, rank


@contextmanager
def _bad_values(model: nn.Module, loss: str | None, gradient: str | None) -> Iterator[None]:
    """Corrupt the loss that `model` returns, or the gradient of its first parameter that has one.

    `None`: neither.
    """
    hooks = []
    if loss is not None:
        hooks.append(model.register_forward_hook(lambda _module, _args, out: out * FACTORS[loss]))
    if gradient is not None:
        weight = next(p for p in model.parameters() if p.requires_grad)
        hooks.append(
            weight.register_post_accumulate_grad_hook(partial(_corrupt, FACTORS[gradient]))
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _corrupt(value: float, weight: Tensor) -> None:
    """Set the first element of a weight's gradient."""
    grad = local_shard(weight.grad)  # type: ignore[arg-type]
    grad.view(-1)[:1] = value


class _Killed(files.FileSystem):
    """A file system that kills the process while it renames a file."""

    def rename(self, old: Path, new: Path) -> None:
        # Windows has no SIGKILL; SIGTERM kills there
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


class _Full(files.FileSystem):
    """A file system without space for the first file."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def _failing_disk(kind: str | None) -> Iterator[None]:
    """Inject a fault of `KINDS["save"]` into the file system; None: no fault."""
    if kind is None:
        yield
        return
    before, files.filesystem = files.filesystem, {"kill": _Killed, "enospc": _Full}[kind]()
    try:
        yield
    finally:
        files.filesystem = before
