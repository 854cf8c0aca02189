"""What a run will take, before it runs: parameters, FLOPs, memory and time on this machine, and what fits where it does not.

Memory is counted by a rehearsal (rehearsal.py), time by a trial of about three seconds (trial.py).
Proof: tests/planning/test_plan.py. How good it is: `python benchmarks/plan.py`.
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

from llm_scratch.config import RunConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.data.loader import TokenLoader
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops, read_bandwidth
from llm_scratch.hardware.flops import flops_per_token, mfu
from llm_scratch.hardware.memory import free_memory, resident_memory
from llm_scratch.hardware.other_load import LoadMeter
from llm_scratch.model import build
from llm_scratch.planning.memory_estimate import MemoryEstimate, estimate_memory
from llm_scratch.planning.step_timing import TYPICAL_MFU, estimate_step_time
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.training.checkpoint_writer import should_save_async
from llm_scratch.training.precision import choose_precision

HEAP_OVERHEAD = {"cpu": 1.2}  # memory taken over memory used: the C library's heap has gaps; measured by benchmarks/plan.py
LIBRARIES = {"cpu": 25 * 2**20}  # what the kernels themselves take once they run
SAMPLE_TOKENS = 180  # as `Records.sample` writes
MIN_OTHER_LOAD = 0.15  # of our processors, that other programs use, from which a measured time is doubtful
MIN_SHARE = 0.1  # of the processors, that this process has at least beside others
MARGIN = 0.95  # of the free memory that a proposal fills at most


@dataclass(frozen=True)
class Plan:
    """What a run will take. Sizes are bytes, times seconds; None where it could not be known."""

    device: str
    threads: int
    matrix_rate: float
    """FLOP/s, against which `mfu` is measured, as in metrics.jsonl"""
    read_bandwidth: float
    """bytes a second"""
    parameters: int
    flops_per_token: int
    tokens_per_step: int
    steps: int
    passes: float | None
    """over the text to learn from"""
    memory: MemoryEstimate
    """what tensors hold"""
    before: int
    """memory that program and text hold before the model is there; 0 on a GPU, which has none of them"""
    peak_memory: int
    """the most that the process will hold, the copy of a save in the background too; on a GPU, that torch will hold there"""
    free_memory: int | None
    """what there is for the process, with what it holds already"""
    micro_batches: int | None
    """the fewest with which the batch fits; None: not even one row at a time does"""
    recompute: bool
    """whether blocks have to be recomputed for it to fit"""
    fitting_peak: int
    """the most that will be held so; or one row at a time, where nothing fits"""
    seconds_per_step: float
    look_seconds: float
    """all looks at the held-out loss together"""
    sample_seconds: float
    """all samples together"""
    mfu: float
    trial: str
    """what was timed"""
    precision: str
    """of the matrix products"""
    other_load: float | None = None
    """processors that other programs kept busy during the trial; None: unknown, or not on a CPU"""

    @property
    def seconds_alone(self) -> float | None:
        """The whole run if the other programs ended; None where they do not matter.

        They share the processors with this run: what they use, its steps wait for.
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
        """The whole run, but for saving its checkpoints."""
        return self.steps * self.seconds_per_step + self.look_seconds + self.sample_seconds

    @property
    def missing_memory(self) -> int:
        """Bytes by which the run does not fit; 0 where it does, or nobody says."""
        return 0 if self.free_memory is None else max(0, self.peak_memory - self.free_memory)

    def save(self, run: Path) -> None:
        """Write plan.json into a run directory."""
        atomic_write(run / "plan.json", json.dumps(asdict(self), indent=1) + "\n")


def read_plan(run: Path) -> Plan | None:
    """The plan that a run began with; None if it has none that can be read."""
    try:
        values = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        return Plan(**{**values, "memory": MemoryEstimate(**values["memory"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def worth_planning(config: RunConfig, corpus: Corpus, device: torch.device, seconds: float = 60.0) -> bool:
    """Whether a run will take so long (`seconds`, by a guess) that three seconds of planning are nothing."""
    with torch.device("meta"):
        work = flops_per_token(build(config.model)) * _steps(config, corpus) * config.train.batch_size * config.model.context_length
    return work > seconds * TYPICAL_MFU * matmul_flops(device, matmul_dtype(device))


def make_plan(config: RunConfig, device: torch.device, corpus: Corpus | None = None, seconds: float = 3.0) -> Plan:
    """Predict a run on this machine.

    Args:
        config: the run.
        device: what it will compute on.
        corpus: its text, which says how long rows are and what `epochs` means; without it rows are full, and `epochs` is one step each.
        seconds: about how long the trial may take.
    """
    cfg, T, where = config.train, config.model.context_length, device.type
    loader = None if corpus is None else loader_for(config, corpus)
    steps = _steps(config, corpus)
    width, asked = (T, cfg.batch_size * T) if loader is None else _rows(loader)
    precision = choose_precision(config.machine.precision, config.model, device)
    memory = estimate_memory(config, device, precision)
    before, free = (resident_memory() or 0) if where == "cpu" else 0, free_memory(device)
    room = None if free is None else free + before

    def held(run: RunConfig, memory: MemoryEstimate) -> int:
        peak = _process(memory, before, where)
        return peak + (_copy_for_saves(run, memory, steps, None if room is None else room - peak) if where == "cpu" else 0)

    parts, recompute, fitting_peak = _fit(config, room, lambda run: held(run, estimate_memory(run, device, precision)))
    rate, bandwidth = matmul_flops(device, matmul_dtype(device)), read_bandwidth(device)
    meter = LoadMeter()
    trial = estimate_step_time(config, device, matmul_flops(device, getattr(torch, precision.name)), seconds, width)
    other_load = meter.processors() if where == "cpu" else None
    with torch.device("meta"):
        flops = flops_per_token(build(config.model))
    looks = 1 + math.ceil(steps / cfg.eval_every)
    samples = math.ceil(steps / cfg.sample_every) if cfg.sample_every else 0
    return Plan(
        device=str(device), threads=torch.get_num_threads(), matrix_rate=rate, read_bandwidth=bandwidth,
        parameters=memory.weights // 4, flops_per_token=flops, tokens_per_step=round(asked), steps=steps,
        passes=None if corpus is None else steps * asked / len(corpus.train),
        memory=memory, before=before, peak_memory=held(config, memory), free_memory=room,
        micro_batches=parts, recompute=recompute, fitting_peak=fitting_peak,
        seconds_per_step=trial.seconds, look_seconds=looks * _eval_batches(config, corpus) * trial.eval_seconds,
        sample_seconds=samples * SAMPLE_TOKENS * memory.weights / bandwidth,
        mfu=mfu(flops, asked / trial.seconds, rate), trial=trial.method, precision=precision.name, other_load=other_load,
    )  # fmt: skip


def loader_for(config: RunConfig, corpus: Corpus, held_out: bool = False) -> TokenLoader:
    """The batches of a run's training text, in its order; with `held_out`, those of its validation text."""
    order, ids = config.data.order, corpus.val if held_out else corpus.train
    if held_out and order != "documents":
        order = "in order"  # type: ignore[assignment]
    return TokenLoader(ids, config.model.context_length, config.train.batch_size, config.train.seed, order, end_of_text(corpus.tokenizer))


def _steps(config: RunConfig, corpus: Corpus | None) -> int:
    """Optimizer steps of the whole run; without a text an epoch counts as one."""
    cfg = config.train
    if cfg.epochs is None:
        return cfg.steps
    return cfg.epochs * (1 if corpus is None else len(loader_for(config, corpus)))


def _rows(loader: TokenLoader, batches: int = 32) -> tuple[int, float]:
    """How wide a batch is, and how many of its targets are asked, on average of some."""
    seen = [loader.batch(step)[1] for step in range(min(batches, max(1, len(loader))))]
    return round(sum(targets.shape[1] for targets in seen) / len(seen)), sum(int((t >= 0).sum()) for t in seen) / len(seen)


def _eval_batches(config: RunConfig, corpus: Corpus | None) -> int:
    """Batches of a look at the loss, on learned and on held-out text together."""
    most = config.train.eval_batches
    if corpus is None:
        return 2 * (most or 1)
    return sum(min(len(loader), most or len(loader)) for loader in (loader_for(config, corpus), loader_for(config, corpus, held_out=True)))


def _process(memory: MemoryEstimate, before: int, where: str) -> int:
    """Memory of the process from that of its tensors."""
    return before + LIBRARIES.get(where, 0) + round(HEAP_OVERHEAD.get(where, 1.0) * memory.peak)


def _copy_for_saves(config: RunConfig, memory: MemoryEstimate, steps: int, left: int | None) -> int:
    """Bytes of the copy that saves in the background are written from, where the run will make any; `left` is free beside the rest."""
    size, first = memory.weights + memory.optimizer, min(config.train.save_every, config.train.eval_every)
    return size if first < steps and should_save_async(config.machine.background_save, size, left) else 0


def _fit(config: RunConfig, room: int | None, peak_of: Callable[[RunConfig], int]) -> tuple[int | None, bool, int]:
    """How a run fits into the memory: micro-batches (None: not at all), whether with recomputing, and its peak so.

    The fewest micro-batches first, as they cost next to nothing; then recomputing, which costs a third of the time.
    """
    cfg, machine, peak = config.train, config.machine, 0
    for recompute in [True] if machine.recompute else [False, True]:
        for parts in (n for n in range(cfg.micro_batches, cfg.batch_size + 1) if cfg.batch_size % n == 0):
            tried = replace(config, train=replace(cfg, micro_batches=parts), machine=replace(machine, recompute=recompute))
            peak = peak_of(tried)
            if room is None or peak <= MARGIN * room:
                return parts, recompute, peak
    return None, True, peak


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a run took, from the rows of its metrics.jsonl, under the names of `Plan`: only what the rows say."""
    steps = [row for row in rows if "seconds" in row]
    found: dict[str, float] = {}
    if steps:
        found["seconds_per_step"] = median(row["seconds"] for row in steps)
    if held := [row["peak_memory_bytes"] for row in steps if row.get("peak_memory_bytes")]:
        found["peak_memory"] = max(held)
    if rows and "elapsed" in rows[-1]:
        found["seconds"] = rows[-1]["elapsed"]
    return found
