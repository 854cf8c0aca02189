"""Predict a run's parameters, FLOPs, memory and time on this machine, and what fits if it does not.

Memory is estimated without allocating (memory_estimate.py); time is measured for about three
seconds (step_timing.py).
Tests: tests/planning/test_plan.py. Accuracy: `python benchmarks/plan.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from llm_scratch.config import RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.data.loader import TokenLoader
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops, read_bandwidth
from llm_scratch.hardware.memory import free_memory, resident_memory
from llm_scratch.hardware.other_load import LoadMeter
from llm_scratch.model.flops import flops_per_token, mfu
from llm_scratch.planning.memory_estimate import MemoryEstimate, estimate_memory
from llm_scratch.planning.step_timing import TYPICAL_MFU, StepTiming, estimate_step_time
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.older_formats import upgrade_plan
from llm_scratch.training.checkpoint_writer import should_save_async
from llm_scratch.training.precision import Precision, choose_precision
from llm_scratch.training.run_data import text_loaders, total_steps
from llm_scratch.training.samples import SAMPLE_TOKENS

Loaders = tuple[TokenLoader, TokenLoader]
"""Training and validation batches of a text."""

# memory of the process over that of tensors: heap fragmentation (benchmarks/plan.py)
HEAP_OVERHEAD = {"cpu": 1.2}
LIBRARIES = {"cpu": 25 * 2**20}  # bytes that the kernels themselves take once they run
MIN_OTHER_LOAD = (
    0.15  # share of our processors used by other programs, from which a timing is doubtful
)
MIN_SHARE = 0.1  # least share of the processors that this process gets next to others
MARGIN = 0.95  # largest share of the free memory that a proposal fills


@dataclass(frozen=True)
class Plan:
    """The prediction for a run. Sizes are bytes, times seconds; None means unknown."""

    device: str
    threads: int
    matrix_rate: float
    """FLOP/s that `mfu` refers to, as in metrics.jsonl"""
    read_bandwidth: float
    """bytes per second"""
    parameters: int
    flops_per_token: int
    tokens_per_step: int
    steps: int
    epochs: float | None
    """of the training text"""
    memory: MemoryEstimate
    """of tensors"""
    baseline_memory: int
    """memory of program and text before the model is built; 0 on a GPU"""
    peak_memory: int
    """largest memory of the process, with the copy of a background save;
    on a GPU, that of torch there
    """
    free_memory: int | None
    """available to the process, including the memory that it already uses"""
    micro_batches: int | None
    """the fewest with which the batch fits; None: not even one row at a time fits"""
    activation_checkpointing: bool
    """whether activation checkpointing is needed for it to fit"""
    fitting_peak: int
    """the peak memory with these two; that of one row at a time if nothing fits"""
    seconds_per_step: float
    eval_seconds: float
    """of all evaluations together"""
    sample_seconds: float
    """of all samples together"""
    mfu: float
    trial: str
    """what was measured"""
    precision: str
    """of the matrix products"""
    other_load: float | None = None
    """processors that other programs used during the timing; None: unknown, or not on a CPU"""

    @property
    def seconds_alone(self) -> float | None:
        """Time of the whole run without other programs; None if they do not matter.

        They share the processors with this run, so its steps wait for them.
        """
        if self.other_load is None or self.other_load < MIN_OTHER_LOAD * self.threads:
            return None
        return self.seconds * max(MIN_SHARE, 1 - self.other_load / self.threads)

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.tokens_per_step

    @property
    def seconds(self) -> float:
        """Time of the whole run, except for saving its checkpoints."""
        return self.steps * self.seconds_per_step + self.eval_seconds + self.sample_seconds

    @property
    def missing_memory(self) -> int:
        """Bytes by which the run does not fit; 0 if it fits or free memory is unknown."""
        return 0 if self.free_memory is None else max(0, self.peak_memory - self.free_memory)

    def save(self, run: Path) -> None:
        """Write plan.json into a run directory."""
        atomic_write(run / "plan.json", json.dumps(asdict(self), indent=1) + "\n")


def read_plan(run: Path) -> Plan | None:
    """Read the plan of a run; None if it has no valid one."""
    try:
        values = upgrade_plan(json.loads((run / "plan.json").read_text(encoding="utf-8")))
        return Plan(**{**values, "memory": MemoryEstimate(**values["memory"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def worth_planning(
    config: RunConfig, corpus: Corpus, device: torch.device, seconds: float = 60.0
) -> bool:
    """Whether a run takes longer than about `seconds`, so that planning time does not matter."""
    n_tokens = (
        total_steps(config.train, text_loaders(config, corpus)[0])
        * config.train.batch_size
        * config.model.context_length
    )
    work = flops_per_token(config.model) * n_tokens
    return work > seconds * TYPICAL_MFU * matmul_flops(device, matmul_dtype(device))


def make_plan(
    config: RunConfig, device: torch.device, corpus: Corpus | None = None, seconds: float = 3.0
) -> Plan:
    """Predict memory and time of a run on this machine.

    Args:
        config: the run.
        device: of the computation.
        corpus: its text, which determines row lengths and the steps of an epoch; without it rows
            are full, and an epoch is one step.
        seconds: approximate time for the timing.
    """
    cfg = config.train
    T = config.model.context_length
    loaders = None if corpus is None else text_loaders(config, corpus)
    steps = _steps(cfg, loaders)
    width, n_targets = (T, cfg.batch_size * T) if loaders is None else _rows(loaders[0])
    precision = choose_precision(config.system.precision, config.model.emb_dim, device)
    memory = estimate_memory(config, device, precision)
    before = (resident_memory() or 0) if device.type == "cpu" else 0
    free = free_memory(device)
    available = None if free is None else free + before

    def peak_of(run: RunConfig, memory: MemoryEstimate) -> int:
        return _peak_memory(run, memory, before, available, device.type, steps)

    def estimate_peak(run: RunConfig) -> int:
        return peak_of(run, memory if run == config else estimate_memory(run, device, precision))

    parts, activation_checkpointing, fitting_peak = _fit(config, available, estimate_peak)
    rate = matmul_flops(device, matmul_dtype(device))
    bandwidth = read_bandwidth(device)
    timing, other_load = _time_steps(config, device, precision, seconds, width)
    flops = flops_per_token(config.model)
    evaluations, samples = _evaluations_and_samples(cfg, steps)
    return Plan(
        device=str(device),
        threads=torch.get_num_threads(),
        matrix_rate=rate,
        read_bandwidth=bandwidth,
        parameters=memory.weights // 4,
        flops_per_token=flops,
        tokens_per_step=round(n_targets),
        steps=steps,
        epochs=None if corpus is None else steps * n_targets / len(corpus.train),
        memory=memory,
        baseline_memory=before,
        peak_memory=peak_of(config, memory),
        free_memory=available,
        micro_batches=parts,
        activation_checkpointing=activation_checkpointing,
        fitting_peak=fitting_peak,
        seconds_per_step=timing.seconds,
        eval_seconds=evaluations * _eval_batches(cfg, loaders) * timing.eval_seconds,
        sample_seconds=samples * SAMPLE_TOKENS * memory.weights / bandwidth,
        mfu=mfu(flops, n_targets / timing.seconds, rate),
        trial=timing.method,
        precision=precision.name,
        other_load=other_load,
    )


def _time_steps(
    config: RunConfig, device: torch.device, precision: Precision, seconds: float, width: int
) -> tuple[StepTiming, float | None]:
    """The time of a step, and the processors that other programs kept busy meanwhile."""
    meter = LoadMeter()
    rate = matmul_flops(device, getattr(torch, precision.name))
    timing = estimate_step_time(config, device, rate, seconds, width)
    return timing, meter.processors() if device.type == "cpu" else None


def _evaluations_and_samples(cfg: TrainConfig, steps: int) -> tuple[int, int]:
    """How often a run evaluates and generates a sample."""
    samples = math.ceil(steps / cfg.sample_every) if cfg.sample_every else 0
    return 1 + math.ceil(steps / cfg.eval_every), samples


def _steps(cfg: TrainConfig, loaders: Loaders | None) -> int:
    """Optimizer steps of the whole run; without a text an epoch counts as one step."""
    if loaders is not None:
        return total_steps(cfg, loaders[0])
    return cfg.steps if cfg.epochs is None else cfg.epochs


def _rows(loader: TokenLoader, batches: int = 32) -> tuple[int, float]:
    """Tokens per row and targets per batch, averaged over some batches."""
    seen = [loader.batch(step)[1] for step in range(min(batches, max(1, len(loader))))]
    width = round(sum(targets.shape[1] for targets in seen) / len(seen))
    return width, sum(int((targets >= 0).sum()) for targets in seen) / len(seen)


def _eval_batches(cfg: TrainConfig, loaders: Loaders | None) -> int:
    """Batches of an evaluation, on training and validation text together."""
    most = cfg.eval_batches
    if loaders is None:
        return 2 * (most or 1)
    return sum(min(len(loader), most or len(loader)) for loader in loaders)


def _process_memory(memory: MemoryEstimate, before: int, device_type: str) -> int:
    """Memory of the process for the tensors in `memory`."""
    return (
        before
        + LIBRARIES.get(device_type, 0)
        + round(HEAP_OVERHEAD.get(device_type, 1.0) * memory.peak)
    )


def _peak_memory(
    run: RunConfig,
    memory: MemoryEstimate,
    before: int,
    available: int | None,
    device_type: str,
    steps: int,
) -> int:
    """Peak memory of a run, on a CPU with the copy that background saves need."""
    peak = _process_memory(memory, before, device_type)
    if device_type != "cpu":
        return peak
    left = None if available is None else available - peak
    return peak + _save_copy_bytes(run, memory, steps, left)


def _save_copy_bytes(
    config: RunConfig, memory: MemoryEstimate, steps: int, free: int | None
) -> int:
    """Bytes of the copy that background saves need, or 0 without one; `free` remains for it."""
    size = memory.weights + memory.optimizer
    first_save = min(config.train.save_every, config.train.eval_every)
    is_async = first_save < steps and should_save_async(config.system.async_save, size, free)
    return size if is_async else 0


def _fit(
    config: RunConfig, available: int | None, peak_of: Callable[[RunConfig], int]
) -> tuple[int | None, bool, int]:
    """How a run fits into memory: micro-batches, activation checkpointing, and the peak.

    Micro-batches are None if it does not fit at all.

    The fewest micro-batches are tried first, as they cost almost nothing; then activation
    checkpointing, which costs a third of the time.
    """
    cfg = config.train
    system = config.system
    peak = 0
    for activation_checkpointing in [True] if system.activation_checkpointing else [False, True]:
        for parts in range(cfg.micro_batches, cfg.batch_size + 1):
            if cfg.batch_size % parts:
                continue
            tried = replace(
                config,
                train=replace(cfg, micro_batches=parts),
                system=replace(system, activation_checkpointing=activation_checkpointing),
            )
            peak = peak_of(tried)
            if available is None or peak <= MARGIN * available:
                return parts, activation_checkpointing, peak
    return None, True, peak


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a run took according to its metrics.jsonl, by the names of `Plan`, where known."""
    steps = [row for row in rows if "seconds" in row]
    took: dict[str, float] = {}
    if steps:
        took["seconds_per_step"] = median(row["seconds"] for row in steps)
    if peaks := [row["peak_memory_bytes"] for row in steps if row.get("peak_memory_bytes")]:
        took["peak_memory"] = max(peaks)
    if rows and "elapsed" in rows[-1]:
        took["seconds"] = rows[-1]["elapsed"]
    return took
