"""Cost of recent architecture ideas: cache size, time per generated token, time of a training step.

    python benchmarks/ideas.py [--experiment experiments/ideas.yaml] [--rounds 5] [--new 8]

The arms of an experiment are measured with random weights, each beside the first one. Cache bytes
are those of the package's own cache. Tokens are generated after 1k, 8k and 64k tokens of random
keys and values, which take as long as those of a text. A training step is that of the arm's own run
with full rows. Times are CPU seconds of one thread, which vary less under other load than elapsed
time. Arm and reference run interleaved; a ratio is the median over the rounds. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from interleaved import ratio, where

from llm_scratch.config import RunConfig, SystemConfig
from llm_scratch.experiments.arms import resolve_arms
from llm_scratch.experiments.experiment import read_experiment
from llm_scratch.hardware.allocator import keep_freed_memory
from llm_scratch.model import build
from llm_scratch.model.language_model import LanguageModel
from llm_scratch.training.model_with_loss import prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.step import train_step

LENGTHS = (1024, 8192, 65536)


def writing(model: LanguageModel, new: int) -> Callable[[int], float]:
    """(tokens in the cache) -> CPU seconds of each of the next `new` tokens."""
    cache = model.new_cache(1, block=None)
    for stored in (*cache.keys, *cache.values):
        stored.normal_()
    token = torch.zeros(1, 1, dtype=torch.long)
    ends = {n: n for n in LENGTHS}

    @torch.inference_mode()
    def seconds(length: int) -> float:
        cache.pos = ends[length]
        began = time.process_time()
        for _ in range(new):
            model(token, cache)
        taken = time.process_time() - began
        ends[length] = cache.pos  # a length that was seen before is faster than a text's next one
        return taken / new

    return seconds


def training(config: RunConfig) -> Callable[[], float]:
    """CPU seconds of a training step."""
    model = build(config.model).train()
    system = SystemConfig(precision="float32")
    model_with_loss = prepare_for_training(model, system, torch.device("cpu"))
    optimizer = OPTIMIZERS[config.train.optimizer](model, config.train)
    shape = config.train.batch_size, config.model.context_length + 1
    ids = torch.randint(config.model.vocab_size, shape)

    def seconds() -> float:
        began = time.process_time()
        train_step(model_with_loss, optimizer, [(ids[:, :-1], ids[:, 1:])], 1.0)
        return time.process_time() - began

    return seconds


def measure_interleaved(
    reference: Callable[[], float], arm: Callable[[], float], rounds: int
) -> dict[str, Any]:
    """Median milliseconds of an arm; its ratio to the reference, with the lowest and highest."""
    for warm_up in (reference, arm):
        warm_up()
    pairs = [(reference(), arm()) for _ in range(rounds)]
    of_reference, of_arm = map(list, zip(*pairs, strict=True))
    median, span = ratio(of_arm, of_reference)
    return {"ms": round(1000 * statistics.median(of_arm), 2), "ratio": median, "range": span}


def bill(config: RunConfig, reference: RunConfig, rounds: int, new: int) -> dict[str, Any]:
    """The costs of an arm, as in the JSON line."""
    both = reference, config
    n_params = sum(p.numel() for p in build(config.model).parameters())
    context = max(LENGTHS) + (rounds + 1) * new
    longer = [build(replace(each.model, context_length=context)).eval() for each in both]
    written = [writing(model, new) for model in longer]
    token = {}
    for n in LENGTHS:
        of_reference, of_arm = (lambda w=w, n=n: w(n) for w in written)
        token[n] = measure_interleaved(of_reference, of_arm, rounds)
    return {
        "parameters": n_params,
        "cache_bytes": {n: longer[1].cache_bytes(n) for n in LENGTHS},
        "token": token,
        "step": measure_interleaved(*(training(each) for each in both), rounds),
    }


def row(name: str, costs: dict[str, Any]) -> str:
    """A line of the printed table."""
    bytes_per_token = [f"{costs['cache_bytes'][n] / n:8.0f}" for n in LENGTHS]
    tokens = [f"{costs['token'][n]['ratio']:6.2f}" for n in LENGTHS]
    return f"{name:34}" + "".join([*bytes_per_token, *tokens]) + f"{costs['step']['ratio']:6.2f}"


def main() -> None:
    """Measure every arm, and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--experiment", default="experiments/ideas.yaml", help="(default: %(default)s)")
    add("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    add("--new", type=int, default=8, help="tokens generated per call (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    arms = resolve_arms(read_experiment(args.experiment))
    lengths = "".join(f"{f'{n // 1024}k':>8}" for n in LENGTHS)
    print(f"{'cache bytes a token, then times':34}{lengths}{lengths[2:]}  step", flush=True)
    costs = {}
    # a process for each arm, which gives its memory back
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as processes:
        for arm in arms:
            costs[arm.name] = processes.apply(
                bill, (arm.config, arms[0].config, args.rounds, args.new)
            )
            print(row(arm.name, costs[arm.name]), flush=True)
    print(json.dumps({"arms": costs} | where()))


if __name__ == "__main__":
    main()
