"""How soon does a model know Shakespeare? Time and tokens to a loss, for AdamW and our best recipe.

    python benchmarks/converge.py [--seeds 3]            # the table of RESULTS.md

    # one trial, on the split that is tuned on
    python benchmarks/converge.py --tune best --set train.lr=0.03 --steps 300

Tiny Shakespeare by characters, 4 layers of 128, context 64 (LLM_SCRATCH_DATA names the folder that
holds it). Reported on the last tenth of the text; tuned on the tenth before it, which is held out
from learning there. Seconds are those of training steps: evaluations are not counted, compiling
would be (nothing here is compiled). No tables of n-grams: every prediction is the network's. The
recipes are the engine's own: AdamW with its learning rate searched on the plain GPT-2 block, and
that of the preset `shakespeare-modern`, as short as 1.8 allows, and with as many steps as fit into
a minute on this machine, by a trial that is not counted. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llm_scratch.config import GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus, prepare
from llm_scratch.hardware.allocator import keep_freed_memory
from llm_scratch.presets import preset
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.run_data import text_data
from llm_scratch.training.step import mean_loss
from llm_scratch.training.trainer import Trainer, build_trainer

PLAIN = GPTConfig(
    vocab_size=66,
    context_length=64,
    emb_dim=128,
    n_heads=4,
    n_layers=4,
    drop_rate=0.0,
    qkv_bias=True,
    tie_embeddings=True,
    init="gpt2",
)
BEST = preset("shakespeare-modern")
MINUTE = 57.0  # seconds that are planned for, as steps are not all as long as those of the trial
RECIPES = {  # the schedule ends with the steps; those of "minute" are set by `fitting`
    "adamw": RunConfig(
        PLAIN,
        train=TrainConfig(
            steps=2000, batch_size=12, lr=6e-3, min_lr=0.0, warmup_steps=100, schedule="cosine"
        ),
    ),
    "best": replace(BEST, train=replace(BEST.train, steps=280)),
    "minute": BEST,
}


def corpus(tuning: bool) -> Corpus:
    """Shakespeare with its last tenth held out.

    For tuning, the tenth before it is held out, and the last one is left out altogether.
    """
    config = preset("shakespeare")
    whole = prepare(replace(config, data=replace(config.data, val_fraction=0.1)))
    if not tuning:
        return whole
    cut = len(whole.train) - len(whole.val)
    return replace(whole, train=whole.train[:cut], val=whole.train[cut:])


def trainer_for(config: RunConfig, folder: Path, text: Corpus, device: str = "cpu") -> Trainer:
    """A trainer at step 0."""
    return build_trainer(
        config, folder, text_data(config, text), Distributed(device=torch.device(device))
    )


def run(
    config: RunConfig, text: Corpus, every: int, target: float, device: str = "cpu"
) -> dict[str, Any]:
    """Train; returns when the target was reached, and the curve: (step, seconds, held-out loss)."""
    curve, seconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        going = trainer_for(config, Path(folder), text, device)
        going.model.train()
        while going.step < going.steps:
            until = min(going.steps, (going.step // every + 1) * every)
            began = time.perf_counter()
            going.train_step(until)
            seconds += time.perf_counter() - began
            if going.step == until:  # no other step is under way
                loss = mean_loss(
                    going.wrapped_model, going.data.val, None, distributed=going.distributed
                )
                curve.append((going.step, round(seconds, 2), round(loss, 4)))
    hit = next((row for row in curve if row[2] <= target), None)
    tokens = config.train.batch_size * config.model.context_length
    reached = (
        None if hit is None else {"steps": hit[0], "seconds": hit[1], "tokens": hit[0] * tokens}
    )
    return {"reached": reached, "last": curve[-1], "curve": curve}


def fitting(config: RunConfig, text: Corpus, seconds: float) -> RunConfig:
    """The recipe with as many steps as fit into so many seconds here."""
    with tempfile.TemporaryDirectory() as folder:
        going, times = trainer_for(config, Path(folder), text), []
        going.model.train()
        for _ in range(60):
            began = time.perf_counter()
            going.train_step()
            times.append(time.perf_counter() - began)
    return replace(
        config, train=replace(config.train, steps=int(seconds / statistics.mean(times[10:])))
    )


def mean_and_spread(numbers: list[float], unit: str) -> str:
    """The mean, the lowest and the highest, in words."""
    return f"{statistics.mean(numbers):,.1f} {unit} [{min(numbers):,.1f}, {max(numbers):,.1f}]"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--target", type=float, default=1.8)
    parser.add_argument("--every", type=int, default=50, help="steps between two evaluations")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--tune", choices=list(RECIPES))
    parser.add_argument("--set", nargs="*", default=[], metavar="PART.NAME=VALUE")
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def tune(args: argparse.Namespace) -> None:
    """One trial of a recipe with other settings."""
    steps = [f"train.steps={args.steps}"] if args.steps else []
    config = RECIPES[args.tune].override(args.set + steps)
    result = run(config, corpus(True), args.every, args.target)
    trial = {"recipe": args.tune, "set": args.set, "steps": args.steps}
    print(json.dumps(trial | {key: result[key] for key in ("reached", "last")}))


def print_row(name: str, target: float, runs: list[dict[str, Any]]) -> None:
    """A row of the table: when the seeds of a recipe reached the target, and where they ended."""
    hits = [r["reached"] for r in runs if r["reached"]]
    units = {"seconds": "s", "tokens": "tokens"}
    means = [
        mean_and_spread([hit[key] for hit in hits], unit) for key, unit in units.items() if hits
    ]
    spread = f"{', '.join(means) or 'not reached'} ({len(hits)} of {len(runs)} seeds)"
    ends = ", ".join("{:.3f} after {:.0f} s".format(*reversed(r["last"][1:])) for r in runs)
    print(f"{name:6}  loss {target}: {spread}; at the end {ends}")


def main() -> None:
    """The table, or one trial."""
    args = arguments()
    keep_freed_memory()
    if args.tune:
        tune(args)
        return
    text, report = corpus(False), {}
    for name in args.recipes:
        recipe = fitting(RECIPES[name], text, MINUTE) if name == "minute" else RECIPES[name]
        seeded = [
            replace(recipe, train=replace(recipe.train, seed=seed)) for seed in range(args.seeds)
        ]
        runs = [run(config, text, args.every, args.target) for config in seeded]
        report[name] = [{**(r["reached"] or {}), "last": r["last"]} for r in runs]
        print_row(name, args.target, runs)
    environment = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"target": args.target, **environment, **report}))


if __name__ == "__main__":
    main()
