"""Accuracy of `llm-scratch plan`: predicted and measured memory and time of a step at three sizes.

    python benchmarks/plan.py [--sizes 124M 6x384 4x128] [--rounds 3]

The sizes are those of train.py. In each round `llm-scratch plan` predicts, then `llm-scratch train`
trains a few steps, each in its own process. Prints a table of the median rounds, then one JSON
line; exits with 1 if memory is off by more than 15 % or time by more than 25 %. Needs
the-verdict.txt, tinyshakespeare.txt and GPT-2's vocabulary (`llm-scratch data download`); 124M
writes a checkpoint of 2 GB.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig, dump_config
from llm_scratch.planning.plan import measured
from llm_scratch.run_directory import open_run

BOUNDS = {"peak_memory": 0.15, "seconds_per_step": 0.25}
GPT2 = {"qkv_bias": True, "tie_embeddings": True, "init": "gpt2", "context_length": 256}
RARE = {
    "eval_every": 1000,
    "eval_batches": 1,
    "save_every": 1000,
    "sample_every": 0,
    "log_every": 1,
}
SIZES = {
    "124M": RunConfig(
        GPTConfig(**GPT2),
        DataConfig(source="verdict", tokenizer="gpt2", order="notebook", val_fraction=0.2),
        TrainConfig(steps=5, batch_size=2, **RARE),
    ),
    "6x384": RunConfig(
        GPTConfig(vocab_size=4096, emb_dim=384, n_heads=6, n_layers=6, **GPT2),
        DataConfig(source="shakespeare", tokenizer="bpe"),
        TrainConfig(steps=6, batch_size=16, **RARE),
    ),
    "4x128": RunConfig(
        GPTConfig(
            vocab_size=66, emb_dim=128, n_heads=4, n_layers=4, **(GPT2 | {"context_length": 64})
        ),
        DataConfig(source="shakespeare", tokenizer="chars"),
        TrainConfig(steps=100, batch_size=12, **RARE),
    ),
}


def said(*words: str | Path) -> str:
    """Run `llm-scratch` with these arguments and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "llm_scratch", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def compare(config: RunConfig) -> dict[str, Any]:
    """Predicted and measured bytes and seconds, and the error of the prediction."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder, "run.yaml"), Path(folder, "run")
        file.write_text(dump_config(config), encoding="utf-8")
        plan = json.loads(said("plan", "--config", file, "--json"))
        said("train", "--config", file, "--out", run)
        took = measured(open_run(run).metrics)
    predicted = {
        "peak_memory": plan["peak_memory_bytes"],
        "seconds_per_step": plan["seconds_per_step"],
    }
    return {
        key: {
            "predicted": predicted[key],
            "measured": took[key],
            "off": predicted[key] / took[key] - 1,
        }
        for key in BOUNDS
    }


def main() -> None:
    """Measure; print the table and the line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, names = parser.add_argument, list(SIZES)
    add("--sizes", nargs="+", default=names, choices=names, help="sizes (default: all)")
    add("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
    args = parser.parse_args()
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in args.sizes}
    for _ in range(args.rounds):
        for name in args.sizes:
            rounds[name].append(compare(SIZES[name]))
    print(
        "| size | memory predicted | measured | off | a step predicted | measured | off"
        " |\n|---|---|---|---|---|---|---|"
    )
    rows = {
        name: {key: middle([each[key] for each in found]) for key in BOUNDS}
        for name, found in rounds.items()
    }
    for name, row in rows.items():
        memory, step = row["peak_memory"], row["seconds_per_step"]
        sizes = " | ".join(f"{memory[key] / 2**20:,.0f} MiB" for key in ("predicted", "measured"))
        times = " | ".join(f"{step[key]:.3f} s" for key in ("predicted", "measured"))
        print(
            f"| {name} | {sizes} | {memory['off']:+.0%} {memory['range']} | {times} |"
            f" {step['off']:+.0%} {step['range']} |"
        )
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    here = {
        "threads": torch.get_num_threads(),
        "machine": platform.platform(),
        "torch": torch.__version__,
    }
    print(
        json.dumps(
            {"benchmark": "plan", "sizes": rows, "commit": git.stdout.strip() or None} | here
        )
    )
    outside = [
        f"{name} {key}"
        for name, row in rows.items()
        for key, bound in BOUNDS.items()
        if abs(row[key]["off"]) > bound
    ]
    if outside:
        sys.exit(f"out of bounds: {', '.join(outside)}")


def middle(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The round with the median error of the prediction, and the range of all rounds as text."""
    found = sorted(found, key=lambda row: row["off"])
    return found[len(found) // 2] | {"range": f"[{found[0]['off']:+.0%}, {found[-1]['off']:+.0%}]"}


if __name__ == "__main__":
    main()
