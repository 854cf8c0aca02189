"""A trial: how long a step takes here, from a few seconds of real steps.

If the model itself is quick enough, its own steps are timed. Else a slice of it is: one and two of its layers, some of its rows, part of
its vocabulary. What the second layer adds is the price of a layer, the rest that of head and embeddings, and both are scaled up.
Proof: tests/planning/test_step_timing.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from llm_scratch.config import RunConfig
from llm_scratch.hardware.benchmark import repeat_timings
from llm_scratch.hardware.flops import flops_per_token
from llm_scratch.model import build
from llm_scratch.training.model_with_loss import prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import checkpoint_activations

TYPICAL_MFU = 0.4  # to guess what fits into the time of a trial, nothing else
REPEATS = 3  # a first one that finds its memory, and two that count
SLICE_VOCABULARY = 8192


class StepCost(NamedTuple):
    """Seconds of one step: `learn` goes forward and back over the rows, `move` changes the weights; `look` is forward alone."""

    forward_backward: float
    optimizer_step: float
    evaluation: float


@dataclass(frozen=True)
class StepTiming:
    """What was timed. `seconds` are those of a whole step, `look_seconds` those of evaluating a batch."""

    seconds: float
    eval_seconds: float
    method: str


def estimate_step_time(
    config: RunConfig, device: torch.device, matrix_rate: float, seconds: float = 3.0, width: int | None = None
) -> StepTiming:
    """Time a step of a run in about `seconds`, whatever its size.

    Args:
        config: the run.
        device: what it will compute on.
        matrix_rate: FLOP/s that the device can do, to choose what is timed.
        width: tokens of a row, where rows are shorter than context_length.
    """
    cfg, T = config.train, width or config.model.context_length
    micro = cfg.batch_size // cfg.micro_batches
    with torch.random.fork_rng():
        if _work(config, cfg.batch_size, T) * REPEATS <= seconds * TYPICAL_MFU * matrix_rate:
            cost = _time(config, micro, T, device, seconds / 2)
            return StepTiming(
                cfg.micro_batches * cost.forward_backward + cost.optimizer_step, cfg.micro_batches * cost.evaluation, "its own steps"
            )
        part, rows = _scaled_down(config, micro, T, seconds * TYPICAL_MFU * matrix_rate / REPEATS)
        one, two = (_time(part.with_model(n_layers=layers), rows, T, device, 0.0) for layers in (1, 2))
    L, V = config.model.n_layers, config.model.vocab_size / part.model.vocab_size
    layer = [max(b - a, 0.0) for a, b in zip(one, two)]
    whole = StepCost(*(L * a + V * max(b - a, 0.0) for a, b in zip(layer, one)))
    scale = cfg.batch_size / rows
    how = f"1 and 2 of {L} layers, {rows} of {cfg.batch_size} rows, {part.model.vocab_size:,} of {config.model.vocab_size:,} tokens"
    return StepTiming(scale * whole.forward_backward + whole.optimizer_step, scale * whole.evaluation, how)


def _work(config: RunConfig, rows: int, T: int) -> float:
    """FLOPs of a step over some rows."""
    with torch.device("meta"):
        return flops_per_token(build(config.model)) * rows * T


def _scaled_down(config: RunConfig, rows: int, T: int, flops: float) -> tuple[RunConfig, int]:
    """A part of the model and as many rows as can be tried with one and with two layers in so many FLOPs; one row at least."""
    part = config.with_model(vocab_size=min(config.model.vocab_size, SLICE_VOCABULARY))
    a_row = sum(_work(part.with_model(n_layers=layers), 1, T) for layers in (1, 2))
    return part, max(1, min(rows, int(flops / a_row)))


def _time(config: RunConfig, rows: int, T: int, device: torch.device, seconds: float) -> StepCost:
    """Time the three parts of a step over `rows` x `T` random tokens."""
    model = build(config.model).to(device)
    if config.machine.recompute:
        checkpoint_activations(model)
    trainee = prepare_for_training(model, replace(config.machine, compile="no"), device)
    optimizer = OPTIMIZERS[config.train.optimizer](model, config.train)
    ids = torch.randint(config.model.vocab_size, (rows, T), device=device)  # [B, T]

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        trainee(ids, ids).backward()

    def move() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.train.max_norm or 1.0)
        optimizer.step()

    def look() -> None:
        with torch.no_grad():
            trainee(ids, ids)

    learning, moving = median(repeat_timings(learn, device, seconds)), median(repeat_timings(move, device, seconds / 4))
    trainee.eval()
    return StepCost(learning, moving, median(repeat_timings(look, device, seconds / 4)))
