"""Speed of generation on this machine beside transformers' `generate` and llama.cpp (llama.py).

    python benchmarks/decode.py [--rounds 5] [--new 200] [--run RUN]

All contenders have the same random weights of the 124M shape, decode greedily and use a key/value
cache. Each has its own process, and they run interleaved (interleaved.py). Tokens per second leave
out the first token, which has its own column. Bytes per second count each weight once per step;
their share is of the read bandwidth, measured on memory of the same size before and after each
contender. Only contenders named `-compiled` are compiled.

With `--run`, the cost of 8 and 4 bits on a trained run is measured as well, ours and llama.cpp's,
as a share of the run's loss in 32 bits (and so of its bits per byte). The last line is JSON; keys
without a prompt length, such as `fp32_b1`, are for a prompt of 16 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama
from interleaved import answering, contenders, ratio, where

CFG: dict[str, Any] = {
    "vocab_size": 50257,
    "context_length": 1024,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.0,
    "qkv_bias": True,
}
# numbers that are read for each token: the matrices of the blocks and the head
READ = 12 * 12 * 768 * 768 + 50257 * 768
BYTES = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5625}
# measured for one row only
ONE_ROW = ("ours-fp32-compiled", "ours-bf16-compiled", "llama-f32", "llama-q8_0", "llama-q4_0")
# model/compiled.py; compiled before the clock runs
COMPILED = ("fp32-compiled", "bf16-compiled", "int8-compiled", "int4-compiled")
PAIRS = {  # key: slow, fast
    "fp32": ("hf-dynamic", "ours-fp32"),
    "fp32_static": ("hf-static", "ours-fp32"),
    "fp32_vs_f32": ("llama-f32", "ours-fp32"),
    "fp32_compiled": ("hf-dynamic", "ours-fp32-compiled"),
    "fp32_compiled_vs_f32": ("llama-f32", "ours-fp32-compiled"),
    "int8_vs_fp32": ("ours-fp32", "ours-int8"),
    "int8_vs_q8_0": ("llama-q8_0", "ours-int8"),
    "int4_vs_q4_0": ("llama-q4_0", "ours-int4"),
    **{f"{kind}_compiled_vs_plain": (f"ours-{kind}", f"ours-{kind}-compiled") for kind in BYTES},
    "int8_compiled_vs_q8_0": ("llama-q8_0", "ours-int8-compiled"),
    "int4_compiled_vs_q4_0": ("llama-q4_0", "ours-int4-compiled"),
}

Write = Callable[[Any, int], tuple[float, float, list[int]]]
"""(ids [B, T], new tokens) -> seconds to the first token and for the others, the first row's ids"""


def shared_model() -> Any:
    """The model of all contenders."""
    import torch

    from llm_scratch.model.gpt import GPTModel

    torch.manual_seed(0)
    return GPTModel(CFG | {"tie_embeddings": True, "init": "gpt2"}).eval()


def ours(precision: str) -> Write:
    """Return the generation loop of this package."""
    import torch

    from llm_scratch.generation.sampling import greedy
    from llm_scratch.generation.steps import steps
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.hardware.matmul_backend import select_matmul_backend
    from llm_scratch.model.compiled import compile_steps
    from llm_scratch.model.packed import pack
    from llm_scratch.model.quantized import quantize

    select_matmul_backend()
    model = shared_model()
    if precision.startswith("int"):
        quantize(model, 8 if precision.startswith("int8") else 4)
    elif precision.startswith("bf16"):
        model.bfloat16()
    (compile_steps if precision.endswith("-compiled") else pack)(model, huge_pages=True)
    keep_freed_memory()

    @torch.inference_mode()
    def write(ids: torch.Tensor, new: int) -> tuple[float, float, list[int]]:
        if new == 0:  # one forward pass over the prompt, to compare with the first token's time
            began = time.perf_counter()
            model(ids)
            return time.perf_counter() - began, 0.0, []
        began = time.perf_counter()
        new_tokens = steps(model, ids, lambda logits, _: greedy(logits))
        written = [next(new_tokens).ids[0]]
        first = time.perf_counter()
        written += [next(new_tokens).ids[0] for _ in range(new - 1)]
        return first - began, time.perf_counter() - first, torch.cat(written).tolist()

    return write


def theirs(cache: str) -> Write:
    """Return transformers' `generate`; a call for one token times the first token."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from llm_scratch.interop.hf_export import tensors

    ours = shared_model()
    config = GPT2Config(
        vocab_size=CFG["vocab_size"],
        n_positions=CFG["context_length"],
        n_embd=CFG["emb_dim"],
        n_head=CFG["n_heads"],
        n_layer=CFG["n_layers"],
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    model.load_state_dict(tensors(ours), strict=False)
    model.tie_weights()
    del ours
    static = {"cache_implementation": "static"} if cache == "static" else {}

    def timed(ids: torch.Tensor, new: int) -> tuple[float, list[int]]:
        began = time.perf_counter()
        more = {
            "max_new_tokens": new,
            "min_new_tokens": new,
            "do_sample": False,
            "pad_token_id": 0,
            "disable_compile": True,
        }
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **more, **static)
        return time.perf_counter() - began, out[0, ids.shape[1] :].tolist()

    def write(ids: torch.Tensor, new: int) -> tuple[float, float, list[int]]:
        first, _ = timed(ids, 1)
        whole, written = timed(ids, new)
        return first, whole - first, written

    return write


def llamas(kind: str) -> Write:
    """Return llama.cpp's generation of one row."""
    model = llama.opened(shared_model(), kind, Path(tempfile.mkdtemp()))

    def write(ids: Any, new: int) -> tuple[float, float, list[int]]:
        model.reset()
        began = time.perf_counter()
        model.eval(ids[0].tolist())
        written = [model.sample(temp=0.0)]
        first = time.perf_counter()
        for _ in range(new - 1):
            model.eval(written[-1:])
            written.append(model.sample(temp=0.0))
        return first - began, time.perf_counter() - first, written

    return write


def work(name: str) -> None:
    """Run the process of a contender."""
    import torch

    from llm_scratch.hardware.memory import peak_memory

    kind, _, rest = name.partition("-")
    write = (
        ours(rest)
        if kind == "ours"
        else theirs(rest)
        if kind == "hf"
        else llamas(llama.KINDS[name])
    )

    def answer(question: list[int]) -> dict[str, Any]:
        rows, prompt, new = question
        ids = torch.randint(0, 50257, (rows, prompt), generator=torch.Generator().manual_seed(1))
        first, others, written = write(ids, new)
        return {
            "first": first,
            "others": others,
            "ids": written,
            "peak": peak_memory(torch.device("cpu")),
        }

    answer([1, 8, 4])  # a first step compiles, where steps are compiled
    answering(answer)


def measure(
    names: list[str], batch: int, prompt: int, new: int, rounds: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Run the contenders interleaved.

    Returns:
        Seconds and memory bandwidth per round of each contender; the missing ones with the reason.
    """
    import torch

    from llm_scratch.hardware.benchmark import best_time

    memory, cpu = torch.ones(READ), torch.device("cpu")

    def bandwidth() -> float:
        return memory.nbytes / best_time(memory.sum, cpu, 0.3)

    with contenders(names, lambda name: ["--work", name]) as ask:

        def one_round(name: str) -> dict[str, Any]:
            before = bandwidth()
            answer = ask(name, [batch, prompt, new])
            # other machines on the host change it from one second to the next
            answer["bandwidth"] = (before + bandwidth()) / 2
            if name.startswith("ours"):
                answer["forward"] = ask(name, [batch, prompt, 0])["first"]
            return answer

        ask.rounds(1, lambda name: ask(name, [batch, prompt, 8]))  # warms up
        answers = ask.rounds(rounds, one_round)
    found: dict[str, dict[str, Any]] = {}
    for name, rows in answers.items():
        kinds = "first", "others", "forward", "bandwidth"
        found[name] = {kind: [row[kind] for row in rows if kind in row] for kind in kinds}
        found[name] |= {"peak": rows[-1]["peak"], "ids": rows[-1]["ids"]}
    return found, ask.missing


def loss_of_few_bits(run: str) -> dict[str, float]:
    """Relative increase of a trained run's loss in 8 and 4 bits, ours and llama.cpp's."""
    from rich.console import Console

    from llm_scratch.cli.commands.evaluate import eval_spans
    from llm_scratch.cli.commands.evaluate import evaluate_with_stderr as measure_loss
    from llm_scratch.data.corpus import prepare
    from llm_scratch.loading import load
    from llm_scratch.model.quantized import quantize
    from llm_scratch.run_directory import open_run
    from llm_scratch.tokenizers.special import end_of_text

    model, tokenizer = load(run)
    text = prepare(open_run(run).config, tokenizer).val[:100_000]
    found, whole = {}, measure_loss(model, tokenizer, text, Console(quiet=True))[0]
    for bits in (8, 4):
        few, _ = load(run)
        loss = measure_loss(quantize(few, bits), tokenizer, text, Console(quiet=True))[0]  # type: ignore[arg-type]
        found[f"int{bits}"] = round(loss.nats / whole.nats - 1, 5)
    if llama.is_there() and model.cfg.architecture == "gpt":
        pieces = [
            text[a:b].tolist()
            for a, b in eval_spans(
                text, model.cfg.context_length, model.start_id, end_of_text(tokenizer)
            )
        ]
        pieces = [piece[: model.cfg.context_length + 1] for piece in pieces if len(piece) > 1]
        sums = {
            kind: llama.nats(llama.opened(model, kind, Path(tempfile.mkdtemp()), True), pieces)
            for kind in llama.KINDS.values()
        }
        found |= {kind.lower(): round(sums[kind] / sums["F32"] - 1, 5) for kind in ("Q8_0", "Q4_0")}
    return found


def show(case: str, found: dict[str, Any], batch: int, new: int, report: dict[str, Any]) -> None:
    """Print one table and add its values to the report."""
    bandwidths = [each / 1e9 for row in found.values() for each in row["bandwidth"]]
    print(
        f"\n{case}: {new} new tokens;"
        f" memory is read at {min(bandwidths):.0f} to {max(bandwidths):.0f} GB/s"
    )
    print(
        f"{'':18}{'tokens/s':>10}{'first token':>13}{'GB/s':>7}{'of bandwidth':>14}{'peak GB':>9}"
    )
    for name, row in found.items():
        seconds = statistics.median(row["others"]) / (new - 1)
        first = statistics.median(row["first"])
        step = READ * BYTES.get(name.split("-")[1], 4)  # bytes
        share = statistics.median(
            step * (new - 1) / took / there for took, there in zip(row["others"], row["bandwidth"])
        )
        ours_or_hf = name.startswith(("ours", "hf"))
        reading = f"{step / seconds / 1e9:7.1f}{share:14.0%}" if ours_or_hf else f"{'':21}"
        print(f"{name:18}{batch / seconds:10.1f}{first:11.3f} s{reading}{row['peak'] / 1e9:9.2f}")
        numbers = {
            "tokens_per_s": batch / seconds,
            "first_token_s": first,
            "peak_memory_gb": row["peak"] / 1e9,
        }
        numbers |= {"bandwidth_share": share} if ours_or_hf else {}
        numbers |= (
            {
                "first_token_over_forward": statistics.median(
                    a / b for a, b in zip(row["first"], row["forward"])
                )
            }
            if row["forward"]
            else {}
        )
        for key, value in numbers.items():
            report[key].setdefault(case, {})[name] = round(value, 3)
    for key, (slow, fast) in PAIRS.items():
        if slow in found and fast in found:
            middle, spread = ratio(found[slow]["others"], found[fast]["others"])
            report["ratios"][f"{key}_{case}"], report["spread"][f"{key}_{case}"] = middle, spread
            print(f"  {fast} over {slow}: {middle:.2f} x  [{spread[0]:.2f}, {spread[1]:.2f}]")
    whole = {
        name: row["ids"]
        for name, row in found.items()
        if name in ("ours-fp32", "ours-fp32-compiled", "hf-dynamic", "hf-static", "llama-f32")
    }
    report["same_ids_in_32_bits"][case] = len({tuple(ids) for ids in whole.values()}) == 1


def summary(report: dict[str, Any]) -> None:
    """Add the short keys: ratios at batch 1 and 8 after a prompt of 16."""
    for key in PAIRS:
        for batch in (1, 8):
            plain = f"{key}_b{batch}" if key == "fp32" else key if batch == 1 else ""
            if plain and (value := report["ratios"].get(f"{key}_b{batch}_p16")):
                report["ratios"][plain] = value
                report["spread"][plain] = report["spread"][f"{key}_b{batch}_p16"]
    speed = report["tokens_per_s"]
    if "b1_p16" in speed and "b8_p16" in speed:
        report["b8_over_b1"] = {
            name: round(speed["b8_p16"][name] / speed["b1_p16"][name], 2)
            for name in speed["b8_p16"]
            if name in speed["b1_p16"]
        }


def main() -> None:
    """Measure, print a table for each batch and prompt, and one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    add("--new", type=int, default=200, help="new tokens per text (default: %(default)s)")
    add("--batches", type=int, nargs="+", default=[1, 8], help="batch sizes (default: 1 8)")
    add("--prompts", type=int, nargs="+", default=[16, 512], help="prompt tokens (default: 16 512)")
    add("--only", nargs="+", help="contenders to measure (default: all)")
    add("--run", help="trained run, to measure the cost of 8 and 4 bits")
    add("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    names = args.only or [
        *(f"ours-{p}" for p in (*BYTES, *COMPILED)),
        "hf-dynamic",
        "hf-static",
        *(llama.KINDS if llama.is_there() else ()),
    ]
    keys = (
        "ratios spread bandwidth_share first_token_s first_token_over_forward tokens_per_s"
        " peak_memory_gb same_ids_in_32_bits missing"
    )
    report: dict[str, Any] = {key: {} for key in keys.split()}
    for batch in args.batches:
        for prompt in args.prompts:
            found, missing = measure(
                [n for n in names if batch == 1 or n not in ONE_ROW],
                batch,
                prompt,
                args.new,
                args.rounds,
            )
            report["missing"] |= missing
            show(f"b{batch}_p{prompt}", found, batch, args.new, report)
    summary(report)
    report["bpb_loss"] = loss_of_few_bits(args.run) if args.run else {}
    print(json.dumps(report | where()))


if __name__ == "__main__":
    main()
