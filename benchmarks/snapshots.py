"""Size of a training snapshot by its number of bits, and its error in the playground.

    python benchmarks/snapshots.py [RUN]        # default: a new `train quickstart`, in a minute

The weights of a run are rounded to different numbers of bits, with one scale per row. The table has
the packed size, and the difference of attention weights and largest probabilities on eight new
stories from those of the full weights. The last lines give the compressed difference of two
consecutive snapshots, early and late in the run.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from llm_scratch.data.stories import HELD_OUT, generate_story
from llm_scratch.interpretability.capture import capture
from llm_scratch.loading import load
from llm_scratch.storage.snapshots import list_snapshots, load_snapshot

BITS = (8, 7, 6, 5, 4)
STORIES = 8


def rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a matrix to integers with one scale per row."""
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(-1, keepdim=True).clamp(min=1e-30) / most
    return (weight / scale).round(), scale


def views(model: torch.nn.Module, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All attention weights, and the largest probability at each position."""
    patterns, best = [], []
    for ids in rows:
        with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
            best.append(model(ids).softmax(-1).amax(-1).flatten())
        patterns.append(torch.stack(list(acts.values())).flatten())
    return torch.cat(patterns), torch.cat(best)


def difference_bytes(run: Path, step: int, following: int) -> int:
    """Compressed bytes of the difference of two snapshots, in steps of the later one's 8 bits."""
    before, after = load_snapshot(run, step), load_snapshot(run, following)
    changes = []
    for name, weight in after.items():
        if weight.dim() > 1:
            values, scale = rounded(weight, 8)
            change = values - (before[name] / scale).round()
            changes.append(change.clamp(-128, 127).to(torch.int8).numpy().tobytes())
    return len(lzma.compress(b"".join(changes)))


def main(run: Path) -> None:
    """Print the table, and a line of JSON."""
    steps = list_snapshots(run)
    if len(steps) < 5:
        raise SystemExit(f"{run} has {len(steps)} snapshots; train: llm-scratch train quickstart")
    model, tokenizer = load(run)
    stories = [generate_story(HELD_OUT + number).text for number in range(STORIES)]
    rows = [torch.tensor([tokenizer.encode(text)[:250]]) for text in stories]
    weights = {name: w.detach().clone() for name, w in model.named_parameters()}
    attention, probability = views(model, rows)
    found = []
    print("bits     MB  probability mean, max   attention mean, max")
    for bits in BITS:
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                values, scale = rounded(weights[name], bits)
                parameter.data.copy_(values * scale)
        n_bytes = sum(w.numel() * bits // 8 + 4 * len(w) for w in weights.values() if w.dim() > 1)
        gaps = [(new - old).abs() for new, old in zip(views(model, rows), (attention, probability))]
        row = {"bits": bits, "megabytes": n_bytes / 1e6}
        for name, gap in zip(("attention", "probability"), gaps):
            row |= {f"{name}_mean": float(gap.mean()), f"{name}_max": float(gap.max())}
        found.append(row)
        print(
            f"{bits:4} {n_bytes / 1e6:6.2f}  {row['probability_mean']:16.4f} "
            f"{row['probability_max']:6.3f}  {row['attention_mean']:13.5f} "
            f"{row['attention_max']:6.3f}"
        )
    pairs = [steps[1:3], steps[-3:-1]]
    changes = {f"{a} to {b}": difference_bytes(run, a, b) / 1e6 for a, b in pairs}
    for pair, megabytes in changes.items():
        print(f"difference of steps {pair}, compressed: {megabytes:.2f} MB")
    print(
        json.dumps(
            {"benchmark": "snapshots", "bits": found, "differences": changes}
            | {"torch": torch.__version__}
        )
    )


def train_quickstart(run: Path) -> Path:
    """Train a new run of the preset quickstart."""
    command = [sys.executable, "-m", "llm_scratch", "train", "quickstart", "--out", str(run)]
    subprocess.run([*command, "--quiet"], check=True)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, help="(default: a new `train quickstart`)")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder:
        main(run or train_quickstart(Path(folder) / "run"))
