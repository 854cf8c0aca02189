"""Speed of training beside transformers' GPT-2 under a plain PyTorch loop.

    python benchmarks/train.py [--sizes 124M 6x384 4x128] [--rounds 5]

All contenders do the same work: the same shape, tied head, dropout 0.1, AdamW, clipping at 1.0,
float32 weights. Contenders:
  ours            the engine as it runs by default: precision by trial, freed memory kept
  ours-float32    the same with every product in float32
  hf              transformers' GPT2LMHeadModel with default settings
  hf-kept         the same with our allocator setting (hardware/allocator.py)
Each has its own process, because allocator settings and peak memory belong to a process. They run
interleaved, a few steps each per round (interleaved.py). Times are medians of steps after a
warm-up; a ratio is the median over the rounds. The matrix peak is measured right before and after
each turn. The last line is JSON. On a machine with a GPU, use
`--device cuda`, with `--batch` and `--context` for a batch that fills it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from interleaved import answering, contenders, ratio, where

SIZES = {  # vocabulary, context, width, heads, layers, rows, steps a turn
    "124M": (50257, 256, 768, 12, 12, 2, 1),
    "6x384": (4096, 256, 384, 6, 6, 16, 2),
    "4x128": (65, 64, 128, 4, 4, 12, 40),
}
CONTENDERS = ("ours", "ours-float32", "hf", "hf-kept")
RATIOS = {  # name in the JSON line -> (slow, fast)
    "ratios": ("hf", "ours"),
    "ratios_same_allocator": ("hf-kept", "ours"),
    "ratios_float32": ("hf", "ours-float32"),
    "ratios_float32_same_allocator": ("hf-kept", "ours-float32"),
}
TABLES = ("spread", "peak_memory_gb", "peak_share")


def ours(shape: tuple[int, ...], precision: str, device: str) -> tuple[Callable[[], Any], str]:
    """One step of our engine, and what it chose."""
    import torch

    from llm_scratch.config import SystemConfig, TrainConfig
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.model.gpt import GPTModel
    from llm_scratch.training.model_with_loss import prepare_for_training
    from llm_scratch.training.optim import OPTIMIZERS
    from llm_scratch.training.step import train_step

    keep_freed_memory()
    V, T, C, H, layers, B, _ = shape
    cfg = {
        "vocab_size": V,
        "context_length": T,
        "emb_dim": C,
        "n_heads": H,
        "n_layers": layers,
        "drop_rate": 0.1,
    }
    cfg |= {"qkv_bias": True, "tie_embeddings": True, "init": "gpt2"}
    model = GPTModel(cfg).to(device).train()
    system = SystemConfig(precision=precision)
    model_with_loss = prepare_for_training(model, system, torch.device(device))
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig(lr=1e-4))
    ids = torch.randint(0, V, (B, T + 1), device=device)
    batch = [(ids[:, :-1], ids[:, 1:])]
    return lambda: train_step(model_with_loss, optimizer, batch, 1.0), model_with_loss.description


def theirs(shape: tuple[int, ...], kept: bool, device: str) -> tuple[Callable[[], Any], str]:
    """One step of transformers' model as its users write it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if kept:
        from llm_scratch.hardware.allocator import keep_freed_memory

        keep_freed_memory()
    V, T, C, H, layers, B, _ = shape
    config = GPT2Config(
        vocab_size=V,
        n_positions=T,
        n_embd=C,
        n_layer=layers,
        n_head=H,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    ids = torch.randint(0, V, (B, T), device=device)

    def step() -> None:
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, "float32"


def work(name: str, shape: tuple[int, ...], device: str) -> None:
    """A contender's process: does as many steps as it is asked for, and answers with the median."""
    import torch

    from llm_scratch.hardware.memory import peak_memory

    on = torch.device(device)
    if name.startswith("ours"):
        step, why = ours(shape, "float32" if name == "ours-float32" else "auto", device)
    else:
        step, why = theirs(shape, name == "hf-kept", device)

    def done() -> None:
        step()
        if on.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        done()

    def answer(steps: int) -> dict[str, Any]:
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            done()
            seconds.append(time.perf_counter() - began)
        return {"seconds": statistics.median(seconds), "peak": peak_memory(on), "why": why}

    answering(answer)


def measure(shape: tuple[int, ...], rounds: int, device: str) -> dict[str, Any]:
    """The contenders in turn; for each its seconds a step and the machine's matrix rate by round.

    The rate is measured before and after, because a shared machine changes from minute to minute.
    Also returns peak memory and precision of each contender, and the missing ones.
    """
    with contenders(
        list(CONTENDERS),
        lambda name: ["--work", name, "--device", device, "--shape", *map(str, shape)],
    ) as ask:

        def ask_and_time_products(name: str) -> dict[str, Any]:
            before = matrix_rates(device)
            answer = ask(name, shape[-1])
            kind = "bfloat16" if answer["why"].startswith("bfloat16:") else "float32"
            return answer | {"rate": (before[kind] + matrix_rates(device)[kind]) / 2}

        answers = ask.rounds(rounds, ask_and_time_products)
    found: dict[str, Any] = {"missing": ask.missing}
    for name, rows in answers.items():
        found[name] = {
            "rounds": [row["seconds"] for row in rows],
            "rates": [row["rate"] for row in rows],
            "peak_gb": rows[-1]["peak"] / 1e9,
            "why": rows[-1]["why"],
        }
    return found


def flops(shape: tuple[int, ...]) -> float:
    """FLOPs of a step's matrix products: 6 for each weight and token, and attention's two."""
    V, T, C, _, layers, B, _ = shape
    weights = 12 * layers * C * C + V * C
    return 6 * B * T * weights + 12 * layers * B * T * T * C


def main() -> None:
    """Measure, print a table for each size and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, names = parser.add_argument, list(SIZES)
    add("--sizes", nargs="+", default=names, choices=names, help="sizes (default: all)")
    add("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    add("--device", default="cpu", help="device (default: %(default)s)")
    add("--batch", type=int, help="rows per batch (default: that of the size)")
    add("--context", type=int, help="tokens per row (default: that of the size)")
    add("--work", help=argparse.SUPPRESS)
    add("--shape", nargs="+", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, tuple(args.shape), args.device)
        return
    report: dict[str, Any] = {key: {} for key in (*RATIOS, *TABLES)} | {"missing": {}}
    for size in args.sizes:
        V, T, C, H, layers, B, steps = SIZES[size]
        shape = (V, args.context or T, C, H, layers, args.batch or B, steps)
        found = measure(shape, args.rounds, args.device)
        report["missing"] |= found.pop("missing")
        print(f"\n{size}: context {shape[1]}, batch {shape[5]}, vocabulary {V}")
        shares, memory = print_rows(found, shape)
        report["peak_share"][size], report["peak_memory_gb"][size] = shares, memory
        for key, (slow, fast) in RATIOS.items():
            if slow not in found or fast not in found:
                continue
            report[key][size], spread = ratio(found[slow]["rounds"], found[fast]["rounds"])
            report["spread"].setdefault(size, {})[key] = spread
            low, high = spread
            print(f"  {fast} over {slow}: {report[key][size]:.2f} x  [{low:.2f}, {high:.2f}]")
    print(json.dumps(report | where(args.device)))


def print_rows(
    found: dict[str, Any], shape: tuple[int, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Print a row for each contender; returns shares of the matrix peak, and memory in GB."""
    tokens = shape[1] * shape[5]
    shares, memory = {}, {}
    print(
        f"{'':14}{'tokens/s':>10}{'GFLOP/s':>10}{'peak':>7}{'of peak':>9}{'peak GB':>9}  precision"
    )
    for name, row in found.items():
        seconds = statistics.median(row["rounds"])
        of_peak = (flops(shape) / took / rate for took, rate in zip(row["rounds"], row["rates"]))
        shares[name] = round(statistics.median(of_peak), 3)
        memory[name] = round(row["peak_gb"], 2)
        speed, peak = flops(shape) / seconds / 1e9, statistics.median(row["rates"]) / 1e9
        print(
            f"{name:14}{tokens / seconds:10.0f}{speed:10.0f}{peak:7.0f}{shares[name]:9.0%}"
            f"{memory[name]:9.2f}  {row['why']}"
        )
    return shares, memory


def matrix_rates(device: str) -> dict[str, float]:
    """The machine's matrix rate now, FLOP/s, in float32 (by the faster library) and bfloat16."""
    import torch

    from llm_scratch.hardware.benchmark import measure_matmul_flops

    on, types = torch.device(device), ("float32", "bfloat16")
    return {name: measure_matmul_flops(on, getattr(torch, name), 0.2) for name in types}


if __name__ == "__main__":
    main()
