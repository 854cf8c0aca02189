"""Estimate the time of a training step on this machine, from a few seconds of real steps.

A model that is fast enough is timed itself. Otherwise a scaled-down one is: one and two of its
layers, some of its rows, part of its vocabulary. The difference is the cost of a layer, the rest
that of head and embeddings; both are scaled up.
Tests: tests/planning/test_step_timing.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from llm_scratch.config import RunConfig
from llm_scratch.hardware.benchmark import repeat_timings
from llm_scratch.model import build
from llm_scratch.model.flops import flops_per_token
from llm_scratch.training.model_with_loss import TYPICAL_MFU, prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import checkpoint_activations

REPEATS = 3  # a warm-up, and two that count
SLICE_VOCABULARY = 8192


class StepCost(NamedTuple):
    """Seconds of a step's parts (forward and backward, optimizer), and of an evaluation."""

    forward_backward: float
    optimizer_step: float
    evaluation: float


@dataclass(frozen=True)
class StepTiming:
    """Seconds of a whole step and of evaluating a batch, and how they were measured."""

    seconds: float
    eval_seconds: float
    method: str


def estimate_step_time(
    config: RunConfig,
    device: torch.device,
    matrix_rate: float,
    seconds: float = 3.0,
    width: int | None = None,
) -> StepTiming:
    """Estimate the time of a run's step in about `seconds`, whatever its size.

    Args:
        config: the run.
        device: of the computation.
        matrix_rate: FLOP/s of the device, to choose what is timed.
        seconds: approximate time to spend.
        width: tokens of a row, if rows are shorter than context_length.
    """
    cfg = config.train
    T = width or config.model.context_length
    micro = cfg.batch_size // cfg.micro_batches
    with torch.random.fork_rng():
        if _work(config, cfg.batch_size, T) * REPEATS <= seconds * TYPICAL_MFU * matrix_rate:
            cost = _time(config, micro, T, device, seconds / 2)
            return StepTiming(
                cfg.micro_batches * cost.forward_backward + cost.optimizer_step,
                cfg.micro_batches * cost.evaluation,
                "steps of this run",
            )
        part, rows = _scaled_down(config, micro, T, seconds * TYPICAL_MFU * matrix_rate / REPEATS)
        one, two = (
            _time(part.with_model(n_layers=layers), rows, T, device, 0.0) for layers in (1, 2)
        )
    L = config.model.n_layers
    V = config.model.vocab_size / part.model.vocab_size
    layer = [max(b - a, 0.0) for a, b in zip(one, two)]
    whole = StepCost(*(L * a + V * max(b - a, 0.0) for a, b in zip(layer, one)))
    scale = cfg.batch_size / rows
    method = (
        f"1 and 2 of {L} layers, {rows} of {cfg.batch_size} rows,"
        f" {part.model.vocab_size:,} of {config.model.vocab_size:,} tokens"
    )
    return StepTiming(
        scale * whole.forward_backward + whole.optimizer_step, scale * whole.evaluation, method
    )


def _work(config: RunConfig, rows: int, T: int) -> float:
    """FLOPs of a step over some rows."""
    return flops_per_token(config.model) * rows * T


def _scaled_down(config: RunConfig, rows: int, T: int, flops: float) -> tuple[RunConfig, int]:
    """A part of the model and rows, at least one, that can be timed in `flops`.

    It is timed with one and with two layers.
    """
    part = config.with_model(vocab_size=min(config.model.vocab_size, SLICE_VOCABULARY))
    flops_per_row = sum(_work(part.with_model(n_layers=layers), 1, T) for layers in (1, 2))
    return part, max(1, min(rows, int(flops / max(1, flops_per_row))))


def _time(config: RunConfig, rows: int, T: int, device: torch.device, seconds: float) -> StepCost:
    """Time the three parts of a step over `rows` x `T` random tokens."""
    model = build(config.model).to(device)
    if config.system.activation_checkpointing:
        checkpoint_activations(model)
    model_with_loss = prepare_for_training(model, replace(config.system, compile="no"), device)
    optimizer = OPTIMIZERS[config.train.optimizer](model, config.train)
    ids = torch.randint(config.model.vocab_size, (rows, T), device=device)  # [B, T]

    def forward_backward() -> None:
        optimizer.zero_grad(set_to_none=True)
        model_with_loss(ids, ids).backward()

    def optimizer_step() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip or 1.0)
        optimizer.step()

    def evaluate() -> None:
        with torch.no_grad():
            model_with_loss(ids, ids)

    forward_backward_seconds = median(repeat_timings(forward_backward, device, seconds))
    optimizer_seconds = median(repeat_timings(optimizer_step, device, seconds / 4))
    model_with_loss.eval()
    eval_seconds = median(repeat_timings(evaluate, device, seconds / 4))
    return StepCost(forward_backward_seconds, optimizer_seconds, eval_seconds)
