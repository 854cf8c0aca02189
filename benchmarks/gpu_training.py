"""Part of gpu.py: the speed of training beside transformers' GPT-2, eager and compiled."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from gpu_setup import (
    Emit,
    Row,
    Setup,
    free_cache,
    gpt2_config,
    is_installed,
    peak_bytes,
    random_ids,
    reason,
    seconds_per_call,
    synchronize,
)
from interleaved import ratio

from llm_scratch.config import DataConfig, ModelConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.model import build
from llm_scratch.model.flops import flops_per_token, mfu
from llm_scratch.training.model_with_loss import prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.step import train_step

Step = Callable[[], object]
MAX_ROWS = 32
ROW_BYTES = 2.5e9  # upper bound for 1024 tokens of 124M in transformers, which copies the logits
STEPS_PER_TURN = 5
MAX_STEPS = 1_000_000  # of a run that is never finished
COMPILE_SECONDS = 60.0  # that must be left before something is compiled
ROUND_SECONDS = 10.0  # that must be left before another round


def speed(setup: Setup, emit: Emit) -> None:
    """Tokens/s and MFU of 124M at context 1024 in bfloat16: eager, then compiled.

    transformers' model runs in the same loop. Contenders alternate, a few steps each; a ratio is
    the median over the rounds. MFU is relative to the matrix rate measured here.
    """
    rows = rows_that_fit(setup)
    rate = matmul_flops(setup.device, torch.bfloat16, 0.05 if setup.tiny else 0.5)
    context = setup.model.context_length
    emit({"name": "bfloat16 matmul", "tflops": rate / 1e12, "batch": rows, "context": context})
    padded = replace(setup.model, vocab_size=-(-setup.model.vocab_size // 64) * 64)
    groups: tuple[dict[str, Callable[..., tuple[Step, Row]]], ...] = (
        {"ours": partial(ours, "no"), "ours, whole loop": whole_loop, "transformers": theirs},
        {
            "ours, compiled": partial(ours, "yes"),
            "transformers, compiled": partial(theirs, compiled=True),
        },
        {f"ours, compiled, vocabulary {padded.vocab_size}": partial(ours, "yes", cfg=padded)},
    )
    ready: dict[str, tuple[Step, Row]] = {}
    for number, group in enumerate(groups):
        for name, make in group.items():
            if missing := [package for package in needs(name) if not is_installed(package)]:
                emit({"name": name, "skipped": f"not installed: {', '.join(missing)}"})
            elif number and not setup.tiny and setup.left() < COMPILE_SECONDS:
                left = f"{setup.left():.0f} s are left"
                emit({"name": name, "skipped": f"{left}, compiling may take {COMPILE_SECONDS:.0f}"})
            elif made := warmed_up(name, partial(make, setup, rows), setup, emit):
                ready[name] = made
        before = groups[number - 1] if number else {}
        both = {name: ready[name] for name in ready if name in group or name in before}
        measure_interleaved(setup, rows, rate, both, list(group), emit)


def needs(contender: str) -> tuple[str, ...]:
    """The packages that a contender imports, besides torch and numpy."""
    if contender.startswith("transformers"):
        return ("transformers",)
    return ("safetensors", "matplotlib", "yaml") if contender == "ours, whole loop" else ()


def rows_that_fit(setup: Setup) -> int:
    """Batch size: as large as keeps a large GPU busy, or as fits."""
    if setup.device.type != "cuda":
        return 2
    free = torch.cuda.mem_get_info(setup.device)[0]
    rows = MAX_ROWS
    while rows > 1 and rows * ROW_BYTES > 0.8 * free:
        rows //= 2
    return rows


def ours(
    compile: str,
    setup: Setup,
    rows: int,
    *,
    cfg: ModelConfig | None = None,
) -> tuple[Step, Row]:
    """A step of our engine, and its FLOPs per token."""
    with torch.device(setup.device):
        model = build(cfg or setup.model).train()
    system = SystemConfig(precision="bfloat16", compile=compile)  # type: ignore[arg-type]
    model_with_loss = prepare_for_training(model, system, setup.device)
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig(lr=1e-4))
    ids = random_ids(setup, rows)
    batch = [(ids[:, :-1], ids[:, 1:])]

    def step() -> None:
        train_step(model_with_loss, optimizer, batch, 1.0)

    return step, {"flops_per_token": flops_per_token(model.cfg)}


def whole_loop(setup: Setup, rows: int) -> tuple[Step, Row]:
    """A step of a run: batches from the loader, and each loss read on the host."""
    import numpy as np

    from llm_scratch.data.corpus import Corpus
    from llm_scratch.tokenizers import CharTokenizer
    from llm_scratch.training.distributed import Distributed
    from llm_scratch.training.run_data import text_data
    from llm_scratch.training.trainer import build_trainer

    cfg = setup.model
    train = TrainConfig(steps=MAX_STEPS, batch_size=rows, lr=1e-4)
    system = SystemConfig(precision="bfloat16", compile="no")
    n_tokens = 8 * rows * cfg.context_length
    ids = np.random.default_rng(0).integers(0, cfg.vocab_size, n_tokens).astype(np.int32)
    corpus = Corpus(CharTokenizer("ab"), ids, ids, n_tokens)
    config = RunConfig(cfg, DataConfig(tokenizer="chars"), train, system)
    run = build_trainer(
        config,
        Path("nothing-is-written"),
        text_data(config, corpus),
        Distributed(device=setup.device),
    )
    run.model.train()
    return partial(run.train_step, MAX_STEPS), {"flops_per_token": flops_per_token(run.model.cfg)}


def theirs(setup: Setup, rows: int, *, compiled: bool = False) -> tuple[Step, Row]:
    """A step of transformers' GPT-2: bfloat16 autocast, clipping and fused AdamW too."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel(gpt2_config(setup.model)).to(setup.device).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    ids = random_ids(setup, rows)[:, :-1]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(setup.device.type, torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    with torch.device("meta"):
        return step, {"flops_per_token": flops_per_token(setup.model)}


def warmed_up(
    name: str,
    make: Callable[[], tuple[Step, Row]],
    setup: Setup,
    emit: Emit,
) -> tuple[Step, Row] | None:
    """A contender after three steps, with its peak memory; None, and a row, if it fails."""
    try:
        with peak_bytes(setup.device) as peak:
            step, row = make()
            for _ in range(3):
                step()
            synchronize(setup.device)
    except Exception as error:  # the others are measured nevertheless
        emit({"name": name, "failed": reason(error)})
        free_cache(setup.device)
        return None
    return step, row | {"peak_gb": peak[0] / 1e9}


def measure_interleaved(
    setup: Setup,
    rows: int,
    rate: float,
    contenders: dict[str, tuple[Step, Row]],
    new: list[str],
    emit: Emit,
) -> None:
    """Measure the contenders, interleaved; report the new ones, and the ratios of ours.

    Ours are compared with each contender of transformers, and with our earlier ones.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(setup.rounds(6)):
        if turn >= 2 and setup.left() < ROUND_SECONDS:
            break
        for name, (step, _) in contenders.items():
            n_steps = 2 if setup.tiny else STEPS_PER_TURN
            seconds[name].append(seconds_per_call(step, n_steps, setup.device))
    tokens = rows * setup.model.context_length
    measured = [name for name in new if name in contenders]
    for name in measured:
        _, known = contenders[name]
        per_second = tokens / statistics.median(seconds[name])
        share = mfu(known["flops_per_token"], per_second, rate)
        row = {"name": name, "tokens_per_second": per_second, "mfu": share}
        emit(row | {"peak_gb": known["peak_gb"], "rounds": len(seconds[name])})
    names = list(contenders)
    for fast in (name for name in measured if name.startswith("ours")):
        earlier = names[: names.index(fast)]
        for slow in (name for name in names if name in earlier or name.startswith("transformers")):
            middle, (lowest, highest) = ratio(seconds[slow], seconds[fast])
            row = {"name": f"{fast} / {slow}", "speed_ratio": middle}
            emit(row | {"lowest": lowest, "highest": highest})
