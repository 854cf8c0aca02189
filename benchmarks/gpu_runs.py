"""Parts of gpu.py about whole runs: memory against its plan, exact resuming, loss over time."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_setup import Emit, Row, Setup, free_cache, peak_bytes, random_ids, reason, synchronize
from torch import Tensor

from llm_scratch.config import (
    DataConfig,
    GPTConfig,
    ModelConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
    from_dict,
)
from llm_scratch.model import build
from llm_scratch.planning.memory_estimate import estimate_memory
from llm_scratch.presets import preset
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import checkpoint_activations
from llm_scratch.training.precision import Precision
from llm_scratch.training.step import train_step

FLOAT32 = SystemConfig(precision="float32", compile="no")
BFLOAT16 = SystemConfig(precision="bfloat16", compile="no")
EVAL_EVERY = 31  # steps, of the 620 of `shakespeare-modern`
MAX_SEEDS = 3


def memory(setup: Setup, emit: Emit) -> None:
    """Peak memory of training, predicted by `estimate_memory` and counted by the allocator."""
    warm = torch.ones(64, 64, device=setup.device)
    (warm @ warm).sum().item()  # the library allocates its workspace, which is not in the plan
    for name, config in memory_cases(setup).items():
        precision = Precision(config.system.precision, "as requested")  # type: ignore[arg-type]
        try:
            planned = estimate_memory(config, setup.device, precision).peak
            with peak_bytes(setup.device) as peak:
                train_and_evaluate(config, setup, precision)
            row: Row = {"planned_gb": planned / 1e9, "measured_gb": peak[0] / 1e9}
            emit({"name": name} | row | {"off": planned / peak[0] - 1})
        except Exception as error:  # the other cases are still measured
            emit({"name": name, "failed": reason(error)})
        free_cache(setup.device)


def memory_cases(setup: Setup) -> dict[str, RunConfig]:
    """Runs whose memory is dominated by different tensors."""
    model = replace(setup.model, drop_rate=0.1)
    half = RunConfig(model, train=TrainConfig(batch_size=8), system=BFLOAT16)
    modern = from_dict(ModelConfig, {"architecture": "nanochat"}, model)
    muon = replace(half.train, optimizer="muon")
    return {
        "bfloat16": half,
        "bfloat16, 4 micro-batches": replace(half, train=replace(half.train, micro_batches=4)),
        "bfloat16, recomputed": replace(
            half, system=replace(BFLOAT16, activation_checkpointing=True)
        ),
        "float32": replace(half, system=FLOAT32),
        "modern, Muon, bfloat16": replace(half, model=modern, train=muon),
    }


def train_and_evaluate(config: RunConfig, setup: Setup, precision: Precision) -> None:
    """Two steps and an evaluation, as in a run."""
    cfg = config.train
    with torch.device(setup.device):
        model = build(config.model).train()
    if config.system.activation_checkpointing:
        checkpoint_activations(model)
    model_with_loss = ModelWithLoss(model, precision)
    optimizer = OPTIMIZERS[cfg.optimizer](model, cfg)
    ids = random_ids(setup, cfg.batch_size)
    inputs, targets = (part.chunk(cfg.micro_batches) for part in (ids[:, :-1], ids[:, 1:]))
    for _ in range(2):
        train_step(model_with_loss, optimizer, list(zip(inputs, targets)), cfg.grad_clip)
    model_with_loss.eval()
    with torch.no_grad():
        model_with_loss(inputs[0], targets[0])
    synchronize(setup.device)


def resume(setup: Setup, emit: Emit) -> None:
    """Compare a run with one that is saved half way and resumed by new objects.

    All weights and optimizer tensors are compared. With a GPU's default kernels they may differ.

    Raises:
        AssertionError: they differ with deterministic kernels.
    """
    from llm_scratch.data.corpus import prepare

    unequal = []
    for name, config in resume_cases(setup).items():
        corpus = prepare(config)
        for kernels in ("deterministic", "default"):
            torch.use_deterministic_algorithms(kernels == "deterministic")
            try:
                row = compare_resumed(config, corpus, setup)
            except Exception as error:  # the other cases are still measured
                row = {"failed": reason(error)}
            finally:
                torch.use_deterministic_algorithms(False)
            emit({"name": name, "kernels": kernels} | row)
            if kernels == "deterministic" and row.get("unequal") != 0:
                unequal.append(name)
    if unequal:
        raise AssertionError(f"not resumed exactly with deterministic kernels: {unequal}")


def resume_cases(setup: Setup) -> dict[str, RunConfig]:
    """Small runs with dropout and micro-batches."""
    model = GPTConfig(
        vocab_size=128,
        context_length=32 if setup.tiny else 256,
        emb_dim=32 if setup.tiny else 256,
        n_heads=2 if setup.tiny else 4,
        n_layers=2 if setup.tiny else 4,
    )
    steps = 6 if setup.tiny else 40
    train = TrainConfig(steps=steps, batch_size=8, micro_batches=2, warmup_steps=2, sample_every=0)
    data = DataConfig(source="stories:200", tokenizer="chars")
    adamw = RunConfig(model, data, train, BFLOAT16)
    muon = RunConfig(model, data, replace(train, optimizer="muon", lr=0.02), FLOAT32)
    return {
        "gpt, AdamW, bfloat16": adamw,
        "modern, Muon, float32": muon.with_model(architecture="nanochat"),
    }


def compare_resumed(config: RunConfig, corpus: Any, setup: Setup) -> Row:
    """Count the tensors that differ between a run and a resumed one; their largest difference."""
    from llm_scratch.storage.checkpoint import load_latest
    from llm_scratch.training.distributed import Distributed
    from llm_scratch.training.run_data import text_data
    from llm_scratch.training.trainer import build_trainer

    n_steps = config.train.steps

    def begin(folder: Path) -> Any:
        data, here = text_data(config, corpus), Distributed(device=setup.device)
        run = build_trainer(config, folder, data, here)  # seeds the random number generators
        run.model.train()
        return run

    def advance(run: Any, until: int) -> None:
        while run.step < until:
            run.train_step(until)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = begin(folder / "whole")
        advance(whole, n_steps)
        first = begin(folder / "run")
        advance(first, n_steps // 2)
        first.checkpoint_data().write(folder / "run", is_best=False)
        resumed = begin(folder / "run")
        resumed.restore(load_latest(folder / "run", partial(print, file=sys.stderr)))
        row: Row = {"steps": n_steps, "resumed_at": resumed.step}
        advance(resumed, n_steps)
    want, got = tensors(whole), tensors(resumed)
    row["tensors"] = len(want)
    row["unequal"] = sum(not torch.equal(got[key], tensor) for key, tensor in want.items())
    off = ((got[key].double() - tensor.double()).abs().max() for key, tensor in want.items())
    return row | {"largest_difference": max(off).item()}


def tensors(run: Any) -> dict[str, Tensor]:
    """The weights and the optimizer's tensors on the CPU."""
    weights, optimizer = run.state_tensors(copies=True)
    return weights | optimizer


def loss(setup: Setup, emit: Emit) -> None:
    """The preset `shakespeare-modern`: seconds of training until the validation loss is reached.

    If tiny Shakespeare is not on this machine (LLM_SCRATCH_DATA), it trains on generated stories,
    whose losses are not comparable.
    """
    import converge

    from llm_scratch.data.corpus import prepare

    config, thresholds = loss_case(setup)
    longest = 0.0  # seconds of a seed
    for seed in range(1 if setup.tiny else MAX_SEEDS):
        row: Row = {"name": f"{config.data.source}, seed {seed}"}
        left = setup.left()
        if left < 1.5 * longest:
            emit(row | {"skipped": f"{left:.0f} s are left, a seed took {longest:.0f}"})
            break
        seeded = replace(config, train=replace(config.train, seed=seed))
        every = 4 if setup.tiny else EVAL_EVERY
        result = converge.run(seeded, prepare(seeded), every, 0.0, str(setup.device))
        longest = max(longest, left - setup.left())
        row["steps"], row["seconds"], row["loss"] = result["last"]
        for threshold in thresholds:
            reached = [at for _, at, value in result["curve"] if value <= threshold]
            row[f"seconds_to_{threshold}"] = reached[0] if reached else None
        emit(row)


def loss_case(setup: Setup) -> tuple[RunConfig, tuple[float, ...]]:
    """What to train, and the losses to report."""
    from llm_scratch.data.sources import on_this_machine

    config = preset("shakespeare-modern")
    if on_this_machine("shakespeare") and not setup.tiny:
        return config, (2.5, 2.0, 1.8, 1.7, 1.65)
    source = "stories:60" if setup.tiny else "stories:4000"
    config = replace(config, data=replace(config.data, source=source))
    if setup.tiny:
        config = replace(config, train=replace(config.train, steps=8))
    return config, (2.0, 1.5, 1.0, 0.8, 0.7, 0.6)
