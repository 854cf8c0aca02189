"""A step is enqueued without waiting for the device, and collected when it is done."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace

import pytest
import torch

from llm_scratch.training import trainer as running
from llm_scratch.training.recovery import Decision, Recovery
from llm_scratch.training.step import StepResult
from llm_scratch.training.trainer import InFlightStep, Trainer

GPU = torch.device("cuda")


class OnGPU(torch.Tensor):
    """A tensor that says it is on a GPU, and is not."""

    device = GPU


def result(loss, kind=torch.Tensor):
    values = torch.tensor(loss), torch.tensor(1.0), torch.tensor(32.0), torch.tensor(True)
    return StepResult(*(value.as_subclass(kind) for value in values))


def test_collect_reads_a_step_only_after_its_event():
    values = result(math.nan)

    class Event:
        def synchronize(self):
            values.loss.fill_(2.5)

    fields = {
        "step": 0,
        "tokens": 0,
        "recovery": Recovery(),
        "distributed": SimpleNamespace(size=1),
    }
    run = SimpleNamespace(
        in_flight=deque([InFlightStep(0.1, values, Event())]),
        _bits_per_byte=lambda *_: {},
        **fields,
    )
    decision, row = Trainer.collect(run)
    assert (decision, row["loss"]) == (Decision.KEEP, 2.5)
    assert run.tokens == 32


def test_the_values_of_a_step_on_a_gpu_are_copied_before_its_event_is_recorded(monkeypatch):
    seen = []

    class Event:
        def record(self, stream):
            seen.append(("recorded", stream))

    def to(self, device, non_blocking=False):
        seen.append((device, non_blocking))
        return self.as_subclass(torch.Tensor)

    monkeypatch.setattr(OnGPU, "to", to, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    values, ready = running._to_host(result(2.5, OnGPU))
    assert seen == [("cpu", True)] * 4 + [("recorded", "the stream of cuda")]
    assert isinstance(ready, Event)
    assert values.loss.item() == 2.5


def test_cpu_steps_have_no_event():
    values = result(2.5)
    assert running._to_host(values) == (values, None)


@pytest.mark.parametrize("part", [0, 1], ids=["inputs", "targets"])
def test_a_batch_goes_to_a_gpu_from_contiguous_pinned_memory(part, monkeypatch):
    """torch copies a slice to contiguous memory first,
    which is not pinned: a wait that no debug mode shows.
    """
    tokens = torch.arange(12).view(3, 4)
    batch = (tokens[:, :-1], tokens[:, 1:])[part]
    assert not batch.is_contiguous()
    seen = []

    def pin_memory(self):
        seen.append(("pinned", self.is_contiguous()))
        return self

    def to(self, device, non_blocking=False):
        seen.append((device, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    assert torch.equal(running._to_device(batch, GPU), batch)
    assert seen == [("pinned", True), (GPU, True)]
