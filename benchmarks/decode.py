"""How fast does a GPT write here, beside transformers' generate (and llama.cpp, where llama-cpp-python and gguf are installed)?

    python benchmarks/decode.py [--rounds 3] [--new 200] [--batches 1 8] [--prompts 16 512] [--run RUN]

Random weights of the 124M shape, greedy, the key/value cache on, every contender in a process of its own, in turns (turns.py). Tokens a
second are those after the first; the first one's time is apart. Bytes a second count each weight once a step, over the read bandwidth
measured here. With `--run`, a trained run: what 8 and 4 bits cost it in bits per byte (`llm-scratch quantize` measures the same).
The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import answering, contenders, ratio, where

CFG = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12, "drop_rate": 0.0, "qkv_bias": True}
READ = 12 * 12 * 768 * 768 + 50257 * 768  # numbers that are read for each token: the matrices of the blocks and the head
BYTES = {"fp32": 4, "int8": 1, "int4": 0.5625, "bf16": 2}
LLAMA = {"llama-f32": "F32", "llama-q8_0": "Q8_0", "llama-q4_0": "Q4_0"}
PAIRS = {  # the key of the last line: slow, fast
    "fp32": ("hf-dynamic", "ours-fp32"), "fp32_static": ("hf-static", "ours-fp32"), "int8_vs_fp32": ("ours-fp32", "ours-int8"),
    "int8_vs_q8_0": ("llama-q8_0", "ours-int8"), "int4_vs_q4_0": ("llama-q4_0", "ours-int4"), "fp32_vs_f32": ("llama-f32", "ours-fp32"),
}  # fmt: skip

Write = Callable[[int, int, int], tuple[float, float]]
"""(rows, prompt tokens, new tokens) -> seconds to the first token, seconds for the others"""


def ours(precision: str) -> Write:
    """Our loop."""
    import torch

    from llm_scratch.generation.sampling import greedy
    from llm_scratch.generation.steps import steps
    from llm_scratch.model.gpt import GPTModel
    from llm_scratch.model.products import use_fast_float32
    from llm_scratch.model.quantized import quantize

    use_fast_float32()
    model = GPTModel(CFG | {"tie_embeddings": True, "init": "gpt2"}).eval()
    if precision.startswith("int"):
        quantize(model, 8 if precision == "int8" else 4)
    elif precision == "bf16":
        model.bfloat16()

    def write(rows: int, prompt: int, new: int) -> tuple[float, float]:
        ids, began = torch.randint(0, 50257, (rows, prompt)), time.perf_counter()
        going = steps(model, ids, lambda logits, _: greedy(logits))
        next(going)
        first = time.perf_counter()
        for _ in range(new - 1):
            next(going)
        return first - began, time.perf_counter() - first

    return write


def theirs(cache: str) -> Write:
    """transformers' generate; its first token is timed by asking for one alone."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config()).eval()
    static = {"cache_implementation": "static"} if cache == "static" else {}

    def timed(ids: torch.Tensor, new: int) -> float:
        began = time.perf_counter()
        more = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0, "disable_compile": True}
        model.generate(ids, attention_mask=torch.ones_like(ids), **more, **static)
        return time.perf_counter() - began

    def write(rows: int, prompt: int, new: int) -> tuple[float, float]:
        ids = torch.randint(0, 50257, (rows, prompt))
        first = timed(ids, 1)
        return first, timed(ids, new) - first

    return write


def llama(kind: str) -> Write:
    """llama.cpp on the same shape, one row at a time."""
    import llama_cpp
    import numpy as np

    folder = Path(tempfile.mkdtemp())
    gguf_file(folder / "f32.gguf")
    path = folder / "f32.gguf"
    if kind != "F32":
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        params.pure = True  # the head too
        path = folder / "few.gguf"
        llama_cpp.llama_model_quantize(str(folder / "f32.gguf").encode(), str(path).encode(), params)
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=2, n_threads_batch=2, verbose=False, logits_all=False)

    def write(rows: int, prompt: int, new: int) -> tuple[float, float]:
        if rows != 1:
            return float("nan"), float("nan")
        ids = np.random.default_rng(0).integers(0, 50257, prompt).tolist()
        model.reset()
        began = time.perf_counter()
        model.eval(ids)
        token = model.sample(temp=0.0)
        first = time.perf_counter()
        for _ in range(new - 1):
            model.eval([token])
            token = model.sample(temp=0.0)
        return first - began, time.perf_counter() - first

    return write


def gguf_file(path: Path) -> None:
    """Random weights of our shape in llama.cpp's format."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    out = gguf.GGUFWriter(str(path), "gpt2")
    out.add_context_length(1024)
    out.add_embedding_length(768)
    out.add_block_count(12)
    out.add_feed_forward_length(3072)
    out.add_head_count(12)
    out.add_layer_norm_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([f"t{i}" for i in range(50257)])
    out.add_token_merges(["t 0"])
    shapes = {"token_embd.weight": (50257, 768), "position_embd.weight": (1024, 768), "output.weight": (50257, 768)}
    shapes |= {"output_norm.weight": (768,), "output_norm.bias": (768,)}
    for layer in range(12):
        for name, shape in {
            "attn_norm": (768,), "ffn_norm": (768,), "attn_qkv": (2304, 768), "attn_output": (768, 768),
            "ffn_up": (3072, 768), "ffn_down": (768, 3072),
        }.items():  # fmt: skip
            shapes |= {f"blk.{layer}.{name}.weight": shape, f"blk.{layer}.{name}.bias": (shape[0],)}
    for name, shape in shapes.items():
        out.add_tensor(name, (0.02 * rng.standard_normal(shape)).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def work(name: str) -> None:
    """A contender's process."""
    from llm_scratch.training.machine import peak_memory

    import torch  # isort: skip

    kind, _, rest = name.partition("-")
    write = ours(rest) if kind == "ours" else theirs(rest) if kind == "hf" else llama(LLAMA[name])
    write(1, 8, 4)

    def answer(question: list[int]) -> dict[str, Any]:
        first, others = write(*question)
        return {"first": first, "others": others, "peak": peak_memory(torch.device("cpu"))}

    answering(answer)


def measure(names: list[str], batch: int, prompt: int, new: int, rounds: int) -> dict[str, dict[str, Any]]:
    """The contenders in turn; for each its seconds of every round."""
    found: dict[str, dict[str, Any]] = {name: {"first": [], "others": []} for name in names}
    with contenders(names, lambda name: ["--work", name]) as ask:
        for turn in range(rounds + 1):
            for name, row in found.items():
                answer = ask(name, [batch, prompt, new if turn else 8])
                if turn:  # the first round warms up
                    row["first"].append(answer["first"])
                    row["others"].append(answer["others"])
                row["peak"] = answer["peak"]
    return found


def loss_by_precision(run: str) -> dict[str, float]:
    """Bits per byte of a trained run on its held-out text, in 32, 8 and 4 bits."""
    from rich.console import Console

    from llm_scratch.cli.evaluate import measure as measure_loss
    from llm_scratch.cli.folders import read_run
    from llm_scratch.data.corpus import prepare
    from llm_scratch.loading import load
    from llm_scratch.model.quantized import quantize

    found, config = {}, read_run(Path(run))
    assert config is not None, f"{run} is no run directory"
    for name, bits in (("fp32", 32), ("int8", 8), ("int4", 4)):
        model, tokenizer = load(run)
        if bits != 32:
            quantize(model, bits)  # type: ignore[arg-type]
        loss = measure_loss(model, tokenizer, prepare(config.config, tokenizer).val, Console(quiet=True))[0]
        found[name] = round(loss.bits_per_byte or 0.0, 5)
    return found


def main() -> None:
    """Measure, print a table for each batch and prompt, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 512])
    parser.add_argument("--only", nargs="+", help="these contenders alone")
    parser.add_argument("--run")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    import torch

    from llm_scratch.training.machine import read_bandwidth

    there = all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))
    names = args.only or ["ours-fp32", "ours-bf16", "ours-int8", "ours-int4", "hf-dynamic", "hf-static", *(LLAMA if there else ())]
    bandwidth = statistics.median(read_bandwidth(torch.device("cpu"), 0.5) for _ in range(3))
    report: dict[str, Any] = {
        "ratios": {},
        "spread": {},
        "bandwidth_share": {},
        "first_token_s": {},
        "tokens_per_s": {},
        "peak_memory_gb": {},
    }
    report["read_bandwidth_gb_s"] = round(bandwidth / 1e9, 1)
    for batch in args.batches:
        for prompt in args.prompts:
            case = f"b{batch}_p{prompt}"
            found = measure([n for n in names if batch == 1 or not n.startswith("llama")], batch, prompt, args.new, args.rounds)
            print(f"\nbatch {batch}, prompt {prompt}, {args.new} new tokens; read bandwidth {bandwidth / 1e9:.1f} GB/s")
            print(f"{'':12}{'tokens/s':>10}{'first token':>13}{'GB/s':>7}{'of bandwidth':>14}{'peak GB':>9}")
            for name, row in found.items():
                seconds, first = statistics.median(row["others"]) / (args.new - 1), statistics.median(row["first"])
                rate = READ * BYTES.get(name.partition("-")[2], 4) / seconds
                known = name.startswith(("ours", "hf"))
                share = f"{rate / 1e9:7.1f}{rate / bandwidth:14.0%}" if known else f"{'':21}"
                print(f"{name:12}{batch / seconds:10.1f}{first:11.3f} s{share}{row['peak'] / 1e9:9.2f}")
                report["tokens_per_s"].setdefault(case, {})[name] = round(batch / seconds, 1)
                report["first_token_s"].setdefault(case, {})[name] = round(first, 3)
                report["peak_memory_gb"].setdefault(case, {})[name] = round(row["peak"] / 1e9, 2)
                if known:
                    report["bandwidth_share"].setdefault(case, {})[name] = round(rate / bandwidth, 2)
            for key, (slow, fast) in PAIRS.items():
                if slow in found and fast in found:
                    middle, spread = ratio(found[slow]["others"], found[fast]["others"])
                    report["ratios"][f"{key}_{case}"], report["spread"][f"{key}_{case}"] = middle, spread
                    print(f"  {fast} over {slow}: {middle:.2f} x  [{spread[0]:.2f}, {spread[1]:.2f}]")
    report["bpb_loss"] = loss_by_precision(args.run) if args.run else {}
    print(json.dumps(report | where()))


if __name__ == "__main__":
    main()
