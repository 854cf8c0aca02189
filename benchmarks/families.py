"""Speed of generation and training of the dense families beside a GPT-2 of their size.

    python benchmarks/families.py [--families gpt llama qwen] [--size 124M] [--dtype bfloat16]

All families have random weights, the same width, depth, heads and vocabulary, a tied head, and a
feed-forward network with the same number of parameters. Each has its own process, and they run
interleaved (interleaved.py). Generation (packed, one row, greedy, with a cache) is reported in
bytes of weights read per second, training in FLOPs of matrix products per second and their
share of the machine's matrix peak (in bfloat16 by autocast). Ratios are to the first family, per
round. With --cpu-time, one thread runs and its CPU time counts, for a machine with other work. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from interleaved import answering, contenders, ratio, where

SIZES = {  # vocabulary, width, heads, layers; tokens of a row, rows, new tokens
    "124M": (50257, 768, 12, 12, 256, 2, 40),
    "6x384": (4096, 384, 6, 6, 256, 8, 100),
}
TIED = {"tie_embeddings": True, "drop_rate": 0.0}


def build_model(family: str, size: str) -> Any:
    """Build a model of a family; feed-forward has two matrices in GPT-2 and three in others."""
    import torch

    from llm_scratch.architectures import ARCHITECTURES, setting_names
    from llm_scratch.model import build

    V, C, H, layers, T, _, new = SIZES[size]
    own = {"ff_dim": 8 * C // 3, "qkv_bias": True, "window": None, "full_every": None}
    if "n_kv_heads" not in (names := setting_names(ARCHITECTURES[family].config)):
        own["ff_dim"] = 4 * C
    shape = {"vocab_size": V, "context_length": max(T, 16 + new), "emb_dim": C, "n_heads": H}
    settings = {**shape, **TIED, "n_layers": layers, "architecture": family}
    torch.manual_seed(0)
    return build(settings | {name: value for name, value in own.items() if name in names})


def work(family: str, size: str, dtype: str, cpu_time: bool, compiled: bool) -> None:
    """Run the process of a family, which times a step of generation or of training."""
    import torch

    from llm_scratch.config import SystemConfig, TrainConfig
    from llm_scratch.generation.sampling import greedy
    from llm_scratch.generation.steps import steps
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.model.compiled import compile_steps
    from llm_scratch.model.flops import flops_per_token
    from llm_scratch.model.packed import pack
    from llm_scratch.training.model_with_loss import prepare_for_training
    from llm_scratch.training.optim import OPTIMIZERS
    from llm_scratch.training.step import train_step

    keep_freed_memory()
    clock = time.thread_time if cpu_time else time.perf_counter
    if cpu_time:
        torch.set_num_threads(1)
    V, _, _, _, T, rows, new = SIZES[size]
    model = build_model(family, size).train()
    prepared = prepare_for_training(model, SystemConfig(precision=dtype), torch.device("cpu"))
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig(lr=1e-4))
    ids = torch.randint(0, V, (rows, T + 1))
    batch = [(ids[:, :-1], ids[:, 1:])]
    writer = build_model(family, size).to(getattr(torch, dtype)).eval()
    read = sum(p.nbytes for name, p in writer.named_parameters() if "pos_emb" not in name)
    (compile_steps if compiled else pack)(writer)

    @torch.inference_mode()
    def write() -> float:
        written = steps(writer, ids[:1, :16], lambda logits, _: greedy(logits))
        next(written)
        began = clock()
        for _ in range(new):
            next(written)
        return (clock() - began) / new

    def learn() -> float:
        began = clock()
        train_step(prepared, optimizer, batch, 1.0)
        return clock() - began

    def answer(question: str) -> dict[str, Any]:
        seconds = write() if question == "write" else learn()
        return {"seconds": seconds, "bytes": read, "flops": flops_per_token(model.cfg) * rows * T}

    answer("write")
    answer("learn")
    answering(answer)


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, names = parser.add_argument, ["gpt", "llama", "qwen", "olmo", "gemma"]
    add("--families", nargs="+", default=names, help=f"families (default: {' '.join(names)})")
    add("--size", default="124M", choices=list(SIZES), help="size (default: %(default)s)")
    types = ["float32", "bfloat16"]
    add("--dtype", default=types[0], choices=types, help="weights (default: %(default)s)")
    add("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    add("--cpu-time", action="store_true", help="CPU time of one thread, not the wall clock")
    add("--compile", action="store_true", help="compile the steps of generation")
    add("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.size, args.dtype, args.cpu_time, args.compile)
        return
    report: dict[str, Any] = {"write_gb_per_s": {}, "learn_peak_share": {}, "ratios": {}}
    found: dict[str, dict[str, Any]] = {}
    options = ["--size", args.size, "--dtype", args.dtype]
    flags = {"--cpu-time": args.cpu_time, "--compile": args.compile}
    options += [flag for flag, is_set in flags.items() if is_set]
    with contenders(args.families, lambda name: ["--work", name, *options]) as ask:

        def write_and_learn(name: str) -> dict[str, Any]:
            write, before = ask(name, "write"), matrix_peak(args.dtype, args.cpu_time)
            learn = ask(name, "learn")
            peak = (before + matrix_peak(args.dtype, args.cpu_time)) / 2
            return {"write": write, "learn": learn, "peak": peak}

        answers = ask.rounds(args.rounds, write_and_learn)
    for name, rounds in answers.items():
        found[name] = {
            what: [row[what]["seconds"] for row in rounds] for what in ("write", "learn")
        }
        found[name] |= {"bytes": rounds[0]["write"]["bytes"], "flops": rounds[0]["learn"]["flops"]}
        found[name]["peaks"] = [row["peak"] for row in rounds]
    peaks = [peak / 1e9 for row in found.values() for peak in row["peaks"]]
    between = f"{min(peaks):.0f} to {max(peaks):.0f} GFLOP/s" if peaks else "unknown"
    print(f"{args.size}, {args.dtype}: matrix peak {between}")
    print(f"{'':10}{'writes GB/s':>12}{'to the first':>22}{'of the peak':>13}{'to the first':>22}")
    first = next(iter(found.values()), {})
    for name, row in found.items():
        speed = row["bytes"] / statistics.median(row["write"]) / 1e9
        share = statistics.median(
            row["flops"] / took / peak for took, peak in zip(row["learn"], row["peaks"])
        )
        # equal work for each: seconds a byte, seconds a FLOP
        scale = {"write": row["bytes"] / first["bytes"], "learn": row["flops"] / first["flops"]}
        line = f"{name:10}"
        for kind, value in (("write", f"{speed:12.1f}"), ("learn", f"{share:13.0%}")):
            seconds = [each / scale[kind] for each in row[kind]]
            middle, (low, high) = ratio(first[kind], seconds)
            report["ratios"][f"{name}_{kind}"] = [middle, low, high]
            line += value + f"{middle:8.2f} [{low:.2f}, {high:.2f}]"
        print(line)
        report["write_gb_per_s"][name] = round(speed, 2)
        report["learn_peak_share"][name] = round(share, 3)
    print(json.dumps(report | where()))


def matrix_peak(dtype: str, cpu_time: bool) -> float:
    """The machine's matrix rate, FLOP/s; with `cpu_time`, that of a thread by its CPU time."""
    import torch

    from llm_scratch.hardware.benchmark import MATMUL_SIZE, measure_matmul_flops
    from llm_scratch.hardware.thread_timer import one_thread, thread_seconds

    if not cpu_time:
        return measure_matmul_flops(torch.device("cpu"), getattr(torch, dtype), 0.2)
    n = MATMUL_SIZE["cpu"]
    a = torch.randn(n, n).to(getattr(torch, dtype))
    with one_thread():
        return 2 * n**3 / min(thread_seconds(lambda: a @ a) for _ in range(10))


if __name__ == "__main__":
    main()
