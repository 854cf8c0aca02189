"""How much longer a training step takes with a learner's parts.

Tests: tests/own_parts/test_use.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from llm_scratch.config import RunConfig
from llm_scratch.model import build
from llm_scratch.own_parts.use import parts_in_use
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.step import train_step

ROUNDS = 3
"""Timed steps of each kind; the fastest counts. One more comes before."""


def step_time_ratio(config: RunConfig, parts: Mapping[str, Any]) -> float:
    """The time of a training step with a learner's parts, divided by that with the package's.

    Both are timed on the CPU, in turn, on random ids.
    """
    with torch.random.fork_rng(devices=[]):
        package = _Steps(config)
        with parts_in_use(parts):
            own = _Steps(config)
        times = [(package.seconds(), own.seconds()) for _ in range(ROUNDS + 1)][1:]
    return min(own for _, own in times) / min(package for package, _ in times)


class _Steps:
    """A model of a run with its optimizer, to do steps with."""

    def __init__(self, config: RunConfig) -> None:
        self.model = ModelWithLoss(build(config.model).train())
        self.optimizer = OPTIMIZERS[config.train.optimizer](self.model.model, config.train)
        shape = config.train.batch_size, config.model.context_length
        self.batch = torch.randint(config.model.vocab_size, shape)
        self.clip = config.train.grad_clip

    def seconds(self) -> float:
        """Do a step; the time it took."""
        began = time.perf_counter()
        train_step(self.model, self.optimizer, [(self.batch, self.batch)], self.clip)
        return time.perf_counter() - began
