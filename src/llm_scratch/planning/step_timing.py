"""Estimate the time of a training step on this machine, from a few seconds of real steps.

A model that is fast enough is timed itself. Otherwise a scaled-down one is: one layer of each kind
(with a window or without, with experts or without), some of its rows, part of its vocabulary; and
the same with one layer more. The difference is the cost of a layer of that kind, the rest that of
head and embeddings; both are scaled up.
Tests: tests/planning/test_step_timing.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from llm_scratch.architectures import ModelConfig
from llm_scratch.config import RunConfig
from llm_scratch.hardware.benchmark import repeat_timings
from llm_scratch.model import LanguageModel, build
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
    clock: Callable[[], float] | None = None,
) -> StepTiming:
    """Estimate the time of a run's step in about `seconds`, whatever its size.

    Args:
        config: the run.
        device: of the computation.
        matrix_rate: FLOP/s of the device, to choose what is timed.
        seconds: approximate time to spend.
        width: tokens of a row, if rows are shorter than context_length.
        clock: measures the parts of a step (default: the wall clock).
    """
    cfg = config.train
    T = width or config.model.context_length
    micro = cfg.batch_size // cfg.micro_batches
    with torch.random.fork_rng():
        if _work(config, cfg.batch_size, T) * REPEATS <= seconds * TYPICAL_MFU * matrix_rate:
            cost = _time(config, micro, T, device, seconds / 2, clock=clock)
            return StepTiming(
                cfg.micro_batches * cost.forward_backward + cost.optimizer_step,
                cfg.micro_batches * cost.evaluation,
                "steps of this run",
            )
        kinds = layer_kinds(config.model, T)
        flops = seconds * TYPICAL_MFU * matrix_rate / REPEATS
        part, rows = _scaled_down(config, len(kinds), micro, T, flops)
        one_each, *one_more = (
            _time(part, rows, T, device, 0.0, layers, clock)
            for layers in ([*kinds], *([*kinds, kind] for kind in kinds))
        )
    V = config.model.vocab_size / part.model.vocab_size
    whole = StepCost(
        *(
            _scaled_up(base, more, list(kinds.values()), V)
            for base, *more in zip(one_each, *one_more)
        )
    )
    scale = cfg.batch_size / rows
    method = (
        f"{len(kinds)} and {len(kinds) + 1} of {config.model.n_layers} layers,"
        f" {rows} of {cfg.batch_size} rows,"
        f" {part.model.vocab_size:,} of {config.model.vocab_size:,} tokens"
    )
    return StepTiming(
        scale * whole.forward_backward + whole.optimizer_step, scale * whole.evaluation, method
    )


def _work(config: RunConfig, rows: int, T: int) -> float:
    """FLOPs of a step over some rows."""
    return flops_per_token(config.model) * rows * T


def layer_kinds(cfg: ModelConfig, T: int) -> dict[int, int]:
    """The kinds of layers of a model: index of the first of a kind -> how many it has.

    Layers of a kind cost the same: they have the same modules, shapes and window.

    Args:
        cfg: the model's settings.
        T: tokens of a row; a window that is no shorter is none.
    """
    with torch.device("meta"):
        blocks = build(cfg).trf_blocks
    first: dict[Hashable, int] = {}
    return dict(Counter(first.setdefault(_kind(block, T), i) for i, block in enumerate(blocks)))


def _kind(block: nn.Module, T: int) -> Hashable:
    """What the cost of a layer depends on."""
    modules = (
        (name, type(part), min(getattr(part, "window", None) or T, T))
        for name, part in block.named_modules()
    )
    shapes = ((name, parameter.shape) for name, parameter in block.named_parameters())
    return (*modules, *shapes)


def _scaled_down(
    config: RunConfig, n_kinds: int, rows: int, T: int, flops: float
) -> tuple[RunConfig, int]:
    """A part of the vocabulary, and rows, at least one, that can be timed in `flops`.

    They are timed with a layer of each kind, and as often with one more.
    """
    cfg = config.model
    part = config.with_model(vocab_size=min(cfg.vocab_size, SLICE_VOCABULARY))
    per_entry = 6 * cfg.emb_dim  # of the head
    layer = (flops_per_token(cfg) - per_entry * cfg.vocab_size) / cfg.n_layers
    heads, layers = n_kinds + 1, n_kinds * (n_kinds + 2)
    flops_per_row = T * (layers * layer + heads * per_entry * part.model.vocab_size)
    return part, max(1, min(rows, int(flops / max(1, flops_per_row))))


def _scaled_up(base: float, more: list[float], counts: list[int], vocabulary: float) -> float:
    """The cost of the whole model from those of its parts.

    Args:
        base: of one layer of each kind.
        more: of the same and one layer more, for each kind.
        counts: how many layers of each kind the model has.
        vocabulary: how many times as large its vocabulary is.
    """
    layers = [max(each - base, 0.0) for each in more]
    rest = max(base - sum(layers), 0.0)
    return sum(n * layer for n, layer in zip(counts, layers)) + vocabulary * rest


def _slice(cfg: ModelConfig, layers: Sequence[int], device: torch.device) -> LanguageModel:
    """A model with some of its layers, each as often as it is named; weights are random."""
    with torch.device("meta"):
        model = build(cfg)
    tied = model.head_is_tied
    model.trf_blocks = nn.Sequential(*(deepcopy(model.trf_blocks[layer]) for layer in layers))
    model.to_empty(device=device)
    if tied:
        model.out_head.weight = model.tok_emb.weight
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        for buffer in model.buffers():
            buffer.zero_()
    return model


def _time(
    config: RunConfig,
    rows: int,
    T: int,
    device: torch.device,
    seconds: float,
    layers: Sequence[int] | None = None,
    clock: Callable[[], float] | None = None,
) -> StepCost:
    """Time the three parts of a step over `rows` x `T` random tokens.

    Args:
        config: the run.
        rows: of a micro-batch.
        T: tokens of a row.
        device: of the computation.
        seconds: approximate time to spend on each part.
        layers: those of a slice; None: the whole model.
        clock: as in `estimate_step_time`.
    """
    if layers is None:
        model = build(config.model).to(device)
    else:
        model = _slice(config.model, layers, device)
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

    forward_backward_seconds = median(repeat_timings(forward_backward, device, seconds, clock))
    optimizer_seconds = median(repeat_timings(optimizer_step, device, seconds / 4, clock))
    model_with_loss.eval()
    eval_seconds = median(repeat_timings(evaluate, device, seconds / 4, clock))
    return StepCost(forward_backward_seconds, optimizer_seconds, eval_seconds)
