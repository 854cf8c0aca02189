"""Time and tokens until a model reaches a validation loss, for AdamW and our best recipe.

    python benchmarks/converge.py [--seeds 3]            # the table of RESULTS.md

    # one trial, evaluated on the tenth of the text that is used for tuning
    python benchmarks/converge.py --tune best --set train.lr=0.03 --steps 300

Task: characters of tiny Shakespeare, 4 layers of width 128, context 64. LLM_SCRATCH_DATA names the
folder of the text. Results are reported on the last tenth of the text. Recipes are tuned on the
tenth before it, and then neither tenth is trained on.

Seconds are those of training steps; evaluations are not counted, and nothing is compiled. No
n-gram tables are used: every prediction is the network's. Recipes:
  adamw     AdamW on the plain GPT-2 block, with a searched learning rate
  best      the preset `shakespeare-modern`, as short as a loss of 1.8 allows
  minute    the same preset with as many steps as fit into a minute on this machine; the trial that
            finds their number is not counted
The last line is JSON.
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
MINUTE = 57.0  # planned seconds, less than 60 because step times vary
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
    """Shakespeare with its last tenth as validation text.

    For tuning, the tenth before it is the validation text, and the last one is not used.
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
    """Train; return when the target was reached, and the curve of (step, seconds, val loss)."""
    curve, seconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for(config, Path(folder), text, device)
        trainer.model.train()
        while trainer.step < trainer.steps:
            until = min(trainer.steps, (trainer.step // every + 1) * every)
            began = time.perf_counter()
            trainer.train_step(until)
            seconds += time.perf_counter() - began
            if trainer.step == until:  # no other step is in flight
                loss = mean_loss(
                    trainer.wrapped_model, trainer.data.val, None, distributed=trainer.distributed
                )
                curve.append((trainer.step, round(seconds, 2), round(loss, 4)))
    hit = next((row for row in curve if row[2] <= target), None)
    tokens = config.train.batch_size * config.model.context_length
    reached = (
        None if hit is None else {"steps": hit[0], "seconds": hit[1], "tokens": hit[0] * tokens}
    )
    return {"reached": reached, "last": curve[-1], "curve": curve}


def fitting(config: RunConfig, text: Corpus, seconds: float) -> RunConfig:
    """The recipe with as many steps as fit into `seconds` on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, times = trainer_for(config, Path(folder), text), []
        trainer.model.train()
        for _ in range(60):
            began = time.perf_counter()
            trainer.train_step()
            times.append(time.perf_counter() - began)
    return replace(
        config, train=replace(config.train, steps=int(seconds / statistics.mean(times[10:])))
    )


def mean_and_spread(numbers: list[float], unit: str) -> str:
    """The mean, the lowest and the highest value as text."""
    return f"{statistics.mean(numbers):,.1f} {unit} [{min(numbers):,.1f}, {max(numbers):,.1f}]"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="runs of each recipe (default: %(default)s)")
    add("--target", type=float, default=1.8, help="validation loss (default: %(default)s)")
    add("--every", type=int, default=50, help="steps between evaluations (default: %(default)s)")
    names = list(RECIPES)
    add("--recipes", nargs="+", default=names, choices=names, help="recipes (default: all)")
    add("--tune", choices=names, help="run one trial of this recipe on the tuning text")
    changes = "settings of the trial"
    add("--set", nargs="*", default=[], metavar="PART.NAME=VALUE", help=changes)
    add("--steps", type=int, help="steps of the trial (default: those of the recipe)")
    return parser.parse_args()


def tune(args: argparse.Namespace) -> None:
    """Run one trial of a recipe with other settings."""
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
    """Print the table, or run one trial."""
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
