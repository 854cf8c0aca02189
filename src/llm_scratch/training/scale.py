"""What many GPUs need, on paper: bytes held, bytes passed on, seconds, and how soon something breaks.

Every number is a product of a few others, and all of them stand here; docs/scale.md explains them and shows the tables.

    python benchmarks/scale.py

Proof: tests/training/test_scale.py.
Sources: activations, Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198; sharding, Rajbhandari et al. 2020,
https://arxiv.org/abs/1910.02054; the batch that still pays, Kaplan et al. 2020, https://arxiv.org/abs/2001.08361, section 5.1;
how often GPUs fail, Llama 3, https://arxiv.org/abs/2407.21783, section 3.3.4; how often to save, Young 1974 (CACM 17, 9).
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = GRADIENT = 4  # bytes of a float32
ADAMW = 8  # its two averages
STATE = WEIGHT + ADAMW  # what a checkpoint holds
ACTIVATIONS = 34  # bytes a token, a layer and a column of emb_dim, with 16-bit products and attention that keeps no scores
BLOCK_INPUT = 4  # bytes of the same if blocks are recomputed: their input alone, float32
BACKWARD = 2 / 3  # share of a step's work that lies on the way back, behind which gradients can travel


@dataclass(frozen=True)
class Shape:
    """A model and its batch. `tokens` are those of a whole step, over all GPUs."""

    name: str
    params: float
    layers: int
    width: int
    context: int
    vocab: int
    tokens: int


@dataclass(frozen=True)
class Cluster:
    """GPUs and what joins them. Rates are bytes a second for each GPU and direction."""

    flops: float = 990e12
    """16-bit products of an H100 or H200, FLOP/s"""
    used: float = 0.4
    """share of it that training reaches"""
    memory: float = 80e9
    node: int = 8
    """GPUs in one machine"""
    inside: float = 300e9
    """between GPUs of a machine (NVLink), as reached"""
    between: float = 40e9
    """between machines (400 Gbit/s a GPU), as reached"""
    disk: float = 2e9
    """what process 0 writes and reads a checkpoint at"""
    hours: float = 50_000
    """between two failures of one GPU, its share of network and machine included: 419 in 54 days on 16,384"""
    start: float = 120
    """seconds from a failure until all processes stand again, without reading the checkpoint"""


@dataclass(frozen=True)
class Costs:
    """What a step on so many GPUs takes. Bytes are those of one GPU, seconds those of a step where nothing else is said."""

    gpus: int
    rows: float
    """of the batch, for each GPU"""
    ddp: float
    """bytes held if each holds the whole model"""
    fsdp: float
    """bytes held if each holds a share"""
    compute: float
    passed: float
    """bytes that each sends in an all-reduce of the gradients"""
    all_reduce: float
    sharded: float
    """seconds that FSDP's three passes take"""
    efficiency: float
    """share of the time that is computing, with what travels behind the way back hidden"""
    failure: float
    """hours between two failures somewhere"""
    save_every: float
    """seconds between two checkpoints that lose the least time"""
    lost: float
    """share of the time that goes into saving, and into doing again what a failure cost"""


def critical_batch_size(loss: float) -> float:
    """Tokens in a batch above which more of them no longer save steps one for one, at this loss in nats per token."""
    return 2e8 / loss ** (1 / 0.21)


def activations(shape: Shape, rows: float, recompute: bool = True) -> float:
    """Bytes kept for the way back over so many rows at a time; logits are never all there (model/chunked_loss.py)."""
    tokens_layer = rows * shape.context * shape.width
    if recompute:
        return tokens_layer * (BLOCK_INPUT * shape.layers + ACTIVATIONS)
    return tokens_layer * ACTIVATIONS * shape.layers


def costs(shape: Shape, gpus: int, cluster: Cluster = Cluster()) -> Costs:  # noqa: B008  (it is frozen)
    """The arithmetic of a step on so many GPUs; one row at a time goes through the model."""
    rows, share = shape.tokens / shape.context / gpus, (gpus - 1) / gpus
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
        gpus, rows, held + kept, held / gpus + 2 * block + kept, compute, passed, all_reduce, 1.5 * all_reduce,
        compute / (compute + waited), failure, every, save / every + again,
    )  # fmt: skip
