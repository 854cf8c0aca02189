"""Batches and results are copied between host and GPU without synchronization."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.training.in_flight import to_device, to_host
from llm_scratch.training.step import StepResult

GPU = torch.device("cuda")


class OnGPU(torch.Tensor):
    """A CPU tensor that reports a GPU as its device."""

    device = GPU


def result(loss, kind=torch.Tensor):
    values = torch.tensor(loss), torch.tensor(1.0), torch.tensor(32.0), torch.tensor(True)
    return StepResult(*(value.as_subclass(kind) for value in values))


def test_gpu_step_values_are_copied_before_the_event_is_recorded(monkeypatch):
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
    values, ready = to_host(result(2.5, OnGPU))
    assert seen == [("cpu", True)] * 4 + [("recorded", "the stream of cuda")]
    assert isinstance(ready, Event)
    assert values.loss.item() == 2.5


def test_cpu_steps_have_no_event():
    values = result(2.5)
    assert to_host(values) == (values, None)


@pytest.mark.parametrize("part", [0, 1], ids=["inputs", "targets"])
def test_gpu_batch_is_copied_from_contiguous_pinned_memory(part, monkeypatch):
    """torch would copy a slice from unpinned memory, a synchronization that no debug mode shows."""
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
    assert torch.equal(to_device(batch, GPU), batch)
    assert seen == [("pinned", True), (GPU, True)]
