"""Reject a run that cannot fit into memory, before any work.

A lower bound is checked first; if it comes close, the memory is estimated. Both count only tensors,
so a rejected run cannot fit, but an accepted one may still be too large.
Tests: tests/planning/test_memory_check.py.
"""

from __future__ import annotations

import torch

from llm_scratch.config import RunConfig
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.formatting import format_bytes
from llm_scratch.hardware.memory import free_memory, resident_memory
from llm_scratch.planning.memory_estimate import estimate_memory

BYTES_PER_PARAMETER = 12
"""weight, gradient and one value of the optimizer, each in float32"""
ESTIMATE_SHARE = 1 / 32
"""share of free memory: a run with a lower bound below it is small, and no estimate is made"""


def check_memory(config: RunConfig, device: torch.device) -> None:
    """Reject a run whose tensors need more memory than there is.

    Args:
        config: the run.
        device: to train on.
    Raises:
        UserError: states the bytes needed and free, and the setting to change (exit code 6).
    """
    free = free_memory(device)
    if free is None:
        return
    free += 0 if device.type == "cuda" else resident_memory() or 0
    parameters, activations = lower_bound(config)
    if free * ESTIMATE_SHARE < parameters + activations <= free:
        memory = estimate_memory(config, device)
        parameters = memory.weights + memory.gradients + memory.optimizer
        activations = memory.peak - parameters
    needed = parameters + activations
    if needed > free:
        raise UserError(
            f"memory: the run needs at least {format_bytes(needed)}, but only {format_bytes(free)}"
            f" are free; {_advice(config, parameters, activations, free)}, or start it anyway with"
            " --ignore-memory",
            RESOURCES,
        )


def lower_bound(config: RunConfig) -> tuple[int, int]:
    """Least bytes for the parameters, and for a batch (ids, a vector per layer and token)."""
    cfg = config.train
    model = config.model
    tokens = cfg.batch_size * model.context_length
    kept = tokens // cfg.micro_batches * model.emb_dim * model.n_layers * 4
    return BYTES_PER_PARAMETER * model.n_params, kept + 2 * 8 * tokens


def _advice(config: RunConfig, parameters: int, activations: int, free: int) -> str:
    """The setting to change."""
    cfg = config.train
    model = config.model
    if parameters > free:
        for name, flag in (
            ("context_length", "--model.context-length"),
            ("vocab_size", "--model.vocab-size"),
        ):
            if config.with_model(**{name: 1}).model.n_params < model.n_params / 2:
                return f"use a smaller {flag}"
        return "use a smaller --model.emb-dim or --model.n-layers"
    parts = cfg.micro_batches * -(-activations // max(1, free - parameters))
    if parts <= cfg.batch_size:
        divisor = next(n for n in range(parts, cfg.batch_size + 1) if cfg.batch_size % n == 0)
        return f"use a smaller --train.batch-size, or --train.micro-batches {divisor} or more"
    return "use a smaller --train.batch-size or --model.context-length"
