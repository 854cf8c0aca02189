"""How good is a plan? Predicted memory and time of a step beside what training then takes, at three sizes.

    python benchmarks/plan.py [124M 6x384 4x128]

For each size `llm-scratch plan` predicts, then `llm-scratch train` trains a few steps, each in a process of its own. Prints a table, then
one JSON line. Needs the-verdict.txt, tinyshakespeare.txt and GPT-2's vocabulary (`llm-scratch data get`); 124M writes a checkpoint of 2 GB.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from llm_scratch.config import DataConfig, ModelConfig, RunConfig, TrainConfig, dump_config
from llm_scratch.training.plan import measured
from llm_scratch.training.plot import read_metrics

RARE = {"eval_every": 1000, "eval_batches": 1, "save_every": 1000, "sample_every": 0, "log_every": 1}
SIZES = {
    "124M": RunConfig(
        ModelConfig(context_length=256),
        DataConfig(source="verdict", tokenizer="gpt2", order="epochs", val_fraction=0.2),
        TrainConfig(steps=5, batch_size=2, **RARE),
    ),
    "6x384": RunConfig(
        ModelConfig(vocab_size=4096, context_length=256, emb_dim=384, n_heads=6, n_layers=6),
        DataConfig(source="shakespeare", tokenizer="bpe"),
        TrainConfig(steps=6, batch_size=16, **RARE),
    ),
    "4x128": RunConfig(
        ModelConfig(vocab_size=66, context_length=64, emb_dim=128, n_heads=4, n_layers=4),
        DataConfig(source="shakespeare", tokenizer="chars"),
        TrainConfig(steps=100, batch_size=12, **RARE),
    ),
}


def said(*words: str | Path) -> str:
    """What `llm-scratch` prints for these words."""
    return subprocess.run([sys.executable, "-m", "llm_scratch", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True).stdout


def compare(config: RunConfig) -> dict[str, Any]:
    """Predicted and measured, in bytes and seconds, and by how much the prediction is off."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder, "run.yaml"), Path(folder, "run")
        file.write_text(dump_config(config), encoding="utf-8")
        plan = json.loads(said("plan", "--config", file, "--json"))
        said("train", "--config", file, "--out", run)
        took = measured(read_metrics(run))
    row = {}
    for key in ("peak_memory", "seconds_per_step"):
        row[key] = {"predicted": plan[key], "measured": took[key], "off": plan[key] / took[key] - 1}
    return row | {"tensors": plan["memory"], "before": plan["before"]}


def main() -> None:
    names = sys.argv[1:] or list(SIZES)
    print("| size | memory predicted | measured | off | a step predicted | measured | off |\n|---|---|---|---|---|---|---|")
    rows = {}
    for name in names:
        rows[name] = row = compare(SIZES[name])
        memory, step = row["peak_memory"], row["seconds_per_step"]
        print(
            f"| {name} | {memory['predicted'] / 2**20:,.0f} MiB | {memory['measured'] / 2**20:,.0f} MiB | {memory['off']:+.0%} "
            f"| {step['predicted']:.3f} s | {step['measured']:.3f} s | {step['off']:+.0%} |",
            flush=True,
        )
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    where = {"threads": torch.get_num_threads(), "machine": platform.platform(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "plan", "sizes": rows, "commit": git.stdout.strip() or None} | where))


if __name__ == "__main__":
    main()
