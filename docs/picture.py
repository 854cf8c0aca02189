"""Draw the picture of the README: loss of a run against the floor, samples during training, skills.

python docs/picture.py runs/quickstart docs/quickstart.png
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from llm_scratch import open_run
from llm_scratch.run_directory import RunInfo

INK, BLUE, ORANGE, GREY = "#222222", "#0072B2", "#D55E00", "#888888"


def draw(folder: Path, out: Path) -> None:
    """Three panels: loss, text, skills."""
    run = open_run(folder)
    skills = json.loads((folder / "skills.json").read_text(encoding="utf-8"))
    figure = plt.figure(figsize=(13, 4.2), dpi=150, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.0, 1.55, 0.75])
    draw_loss(left, run, skills["floor_bits_per_byte"])
    draw_samples(middle, run)
    draw_skills(right, skills["skills"])
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


def draw_loss(axis: Axes, run: RunInfo, floor: float) -> None:
    """The loss on validation stories, above the entropy of the stories."""
    tokens = [row["tokens"] / 1e6 for row in run.evaluations]
    losses = [row["val_bits_per_byte"] for row in run.evaluations]
    axis.plot(tokens, losses, color=BLUE, lw=2, marker="o", ms=3)
    axis.axhline(floor, color=ORANGE, lw=1.5, ls="--")
    end = run.final["tokens"] / 1e6
    style = {"color": ORANGE, "va": "top", "ha": "right", "fontsize": 9}
    axis.text(end, floor * 0.85, "floor: the entropy of the stories", **style)
    axis.set(xlabel="million tokens learned from", ylabel="bits per byte, validation stories")
    axis.set(ylim=(0, None))
    axis.set_title("It learns ...", loc="left", fontweight="bold")


def draw_samples(axis: Axes, run: RunInfo) -> None:
    """Samples from the beginning, a quarter and the end of training."""
    samples = run.samples
    chosen = [(samples[0], 3), (samples[len(samples) // 4], 3), (samples[-1], 9)]
    axis.axis("off")
    axis.set_title("... to write ...", loc="left", fontweight="bold")
    small = {"color": GREY, "fontsize": 8.5, "va": "top", "transform": axis.transAxes}
    text = small | {"color": INK, "fontsize": 9, "family": "serif", "linespacing": 1.3}
    y = 1.0
    for sample, max_lines in chosen:
        axis.text(0, y, f"after {sample.step} steps", **small)
        lines = textwrap.wrap(" ".join(sample.text.split()), 74)
        if len(lines) > max_lines:
            lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " ..."]
        axis.text(0, y - 0.05, "\n".join(lines), **text)
        y -= 0.11 + 0.049 * len(lines)


def draw_skills(axis: Axes, skills: dict[str, dict[str, float]]) -> None:
    """The accuracy in each skill, and that of guessing."""
    names, values = list(skills), list(skills.values())
    axis.barh(names, [v["accuracy"] for v in values], color=BLUE, height=0.6)
    chance = [v["chance"] for v in values]
    axis.scatter(chance, names, color=ORANGE, marker="|", s=250, lw=2.5, zorder=3)
    axis.set(xlim=(0, 1.02), xlabel="share right on new stories")
    axis.invert_yaxis()
    axis.text(chance[0] + 0.03, 0, "by chance", color="white", va="center", fontsize=8.5)
    axis.set_title("... and to remember", loc="left", fontweight="bold")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
