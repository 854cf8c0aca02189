"""Estimate training on many GPUs: memory, communication, step time and failures.

Every estimate is a product of a few constants, all defined here; docs/scale.md explains them and
shows the tables, which `python benchmarks/scale.py` prints.

Tests: tests/benchmarks/test_scale.py.
Sources: activations, Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198; sharding,
Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054; critical batch size, Kaplan et al. 2020,
https://arxiv.org/abs/2001.08361, section 5.1; GPU failure rate, Llama 3,
https://arxiv.org/abs/2407.21783, section 3.3.4; checkpoint interval, Young 1974 (CACM 17, 9).
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = GRADIENT = 4  # bytes of a float32
ADAMW = 8  # its two moments
STATE = WEIGHT + ADAMW  # what a checkpoint stores
# bytes per token, layer and column of emb_dim: 16-bit products, attention that stores no scores
ACTIVATIONS = 34
BLOCK_INPUT = 4  # the same with activation checkpointing: only the block's input, in float32
# share of a step that is backward pass, which overlaps the communication of gradients
BACKWARD = 2 / 3


@dataclass(frozen=True)
class Shape:
    """A model and its batch. `tokens` are those of a step over all GPUs."""

    name: str
    params: float
    layers: int
    width: int
    context: int
    vocab: int
    tokens: int


@dataclass(frozen=True)
class Cluster:
    """GPUs and their network. Rates are bytes per second, per GPU and direction."""

    flops: float = 990e12
    """of 16-bit products on an H100 or H200, FLOP/s"""
    used: float = 0.4
    """MFU: the share of it that training reaches"""
    memory: float = 80e9
    node: int = 8
    """GPUs in one machine"""
    inside: float = 300e9
    """bandwidth between GPUs of a machine (NVLink), as achieved"""
    between: float = 40e9
    """bandwidth between machines (400 Gbit/s per GPU), as achieved"""
    disk: float = 2e9
    """rate at which rank 0 writes and reads a checkpoint"""
    hours: float = 50_000
    """hours between failures of a GPU, its network and machine: 419 in 54 days on 16,384"""
    start: float = 120
    """seconds from a failure until all processes run again, without reading the checkpoint"""


@dataclass(frozen=True)
class Costs:
    """Costs of a step on `gpus` GPUs: bytes per GPU, seconds per step unless stated otherwise."""

    gpus: int
    rows: float
    """of the batch, per GPU"""
    ddp: float
    """bytes in memory if each GPU has the whole model"""
    fsdp: float
    """bytes in memory if each GPU has a shard"""
    compute: float
    passed: float
    """bytes that each GPU sends in an all-reduce of the gradients"""
    all_reduce: float
    sharded: float
    """communication time of FSDP's three passes"""
    efficiency: float
    """share of the time that is computation, with communication overlapping the backward pass"""
    failure: float
    """hours between failures of any GPU"""
    save_every: float
    """seconds between checkpoints that lose the least time"""
    lost: float
    """share of the time for saving, and for redoing what failures cost"""


def critical_batch_size(loss: float) -> float:
    """Critical batch size in tokens at a loss: above it, larger batches save fewer steps."""
    return 2e8 / loss ** (1 / 0.21)


def activations(shape: Shape, rows: float, activation_checkpointing: bool = True) -> float:
    """Bytes of activations for `rows` rows; logits in chunks (model/chunked_loss.py)."""
    tokens_layer = rows * shape.context * shape.width
    if activation_checkpointing:
        return tokens_layer * (BLOCK_INPUT * shape.layers + ACTIVATIONS)
    return tokens_layer * ACTIVATIONS * shape.layers


def costs(shape: Shape, gpus: int, cluster: Cluster = Cluster()) -> Costs:  # noqa: B008  (it is frozen)
    """Costs of a step on `gpus` GPUs; one row at a time goes through the model."""
    rows = shape.tokens / shape.context / gpus
    share = (gpus - 1) / gpus
    held = shape.params * (WEIGHT + GRADIENT + ADAMW)
    block = shape.params / shape.layers * WEIGHT
    kept = activations(shape, min(1.0, rows))
    link = cluster.inside if gpus <= cluster.node else cluster.between
    passed = 2 * share * shape.params * GRADIENT
    compute = 6 * shape.params * shape.tokens / gpus / (cluster.flops * cluster.used)
    all_reduce = passed / link
    waited = max(0.0, all_reduce - BACKWARD * compute)
    failure = cluster.hours / gpus
    save = shape.params * STATE / cluster.disk
    every = (2 * save * failure * 3600) ** 0.5
    again = (every / 2 + cluster.start + save) / (failure * 3600)
    return Costs(
        gpus,
        rows,
        held + kept,
        held / gpus + 2 * block + kept,
        compute,
        passed,
        all_reduce,
        1.5 * all_reduce,
        compute / (compute + waited),
        failure,
        every,
        save / every + again,
    )
