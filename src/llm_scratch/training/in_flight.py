"""Steps in flight: a GPU computes them while the next ones are enqueued.

Reading a value waits for the step that computes it, so batches and results are copied
asynchronously, and a step is read after another one is enqueued. On a CPU a step is read at once.
Tests: tests/training/test_in_flight.py, tests/training/test_trainer.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llm_scratch.training.step import StepResult

MAX_IN_FLIGHT = {"cuda": 1}
"""Steps that are enqueued on a device before the results of an older one are read."""


class InFlightStep(NamedTuple):
    """An enqueued step: its learning rate, and its results, on the host once `ready` is reached."""

    rate: float
    result: StepResult
    ready: torch.cuda.Event | None
    """None: the values are there already"""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device; to a GPU asynchronously, from pinned memory.

    A step is enqueued while the one before it computes (`Trainer.max_in_flight`), so its batch
    arrives in time. The tensor is made contiguous first: torch would copy a slice to contiguous
    memory that is not pinned, and the driver may synchronize with the stream for that.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def to_host(result: StepResult) -> tuple[StepResult, torch.cuda.Event | None]:
    """Start copying a step's values to the host; the event is reached when they are there.

    Reading them from the GPU later (`.item()`) would wait for the whole stream, and so for the step
    that was enqueued after this one: the GPU would then be idle until the next one is enqueued.
    """
    if result.loss.device.type != "cuda":
        return result, None
    # a non-blocking copy is to pinned memory
    values = StepResult(*(value.to("cpu", non_blocking=True) for value in result))
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(result.loss.device))
    return values, ready
