"""A step is enqueued without waiting for the device, and collected when it is done."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace

import torch

from llm_scratch.training.in_flight import InFlightStep
from llm_scratch.training.recovery import Decision, Recovery
from llm_scratch.training.step import StepResult
from llm_scratch.training.trainer import Trainer


def test_collect_reads_a_step_only_after_its_event():
    values = StepResult(*map(torch.tensor, (math.nan, 1.0, 32.0, True)))

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
