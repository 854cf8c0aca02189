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

from llm_scratch import open_run

INK, BLUE, ORANGE, GREY = "#222222", "#0072B2", "#D55E00", "#888888"


def draw(folder: Path, out: Path) -> None:
    """Three panels: loss, text, skills."""
    run = open_run(folder)
    skills = json.loads((folder / "skills.json").read_text(encoding="utf-8"))
    evaluations = run.evaluations
    figure = plt.figure(figsize=(13, 4.2), dpi=150, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.0, 1.55, 0.75])
    left.plot(
        [r["tokens"] / 1e6 for r in evaluations],
        [r["val_bits_per_byte"] for r in evaluations],
        color=BLUE,
        lw=2,
        marker="o",
        ms=3,
    )
    left.axhline(skills["floor_bits_per_byte"], color=ORANGE, lw=1.5, ls="--")
    end = run.final["tokens"] / 1e6
    left.text(
        end,
        skills["floor_bits_per_byte"] * 0.85,
        "floor: the entropy of the stories",
        color=ORANGE,
        va="top",
        ha="right",
        fontsize=9,
    )
    left.set(
        xlabel="million tokens learned from",
        ylabel="bits per byte, validation stories",
        ylim=(0, None),
    )
    left.set_title("It learns ...", loc="left", fontweight="bold")
    samples = run.samples
    chosen = [(samples[0], 3), (samples[len(samples) // 4], 3), (samples[-1], 9)]
    middle.axis("off")
    middle.set_title("... to write ...", loc="left", fontweight="bold")
    y = 1.0
    for sample, max_lines in chosen:
        middle.text(
            0,
            y,
            f"after {sample.step} steps",
            color=GREY,
            fontsize=8.5,
            va="top",
            transform=middle.transAxes,
        )
        lines = textwrap.wrap(" ".join(sample.text.split()), 74)
        if len(lines) > max_lines:
            lines = [*lines[: max_lines - 1], lines[max_lines - 1] + " ..."]
        middle.text(
            0,
            y - 0.05,
            "\n".join(lines),
            color=INK,
            fontsize=9,
            va="top",
            family="serif",
            transform=middle.transAxes,
            linespacing=1.3,
        )
        y -= 0.11 + 0.049 * len(lines)
    names = list(skills["skills"])
    values = [skills["skills"][name] for name in names]
    right.barh(names, [v["accuracy"] for v in values], color=BLUE, height=0.6)
    right.scatter(
        [v["chance"] for v in values], names, color=ORANGE, marker="|", s=250, lw=2.5, zorder=3
    )
    right.set(xlim=(0, 1.02), xlabel="share right on new stories")
    right.invert_yaxis()
    right.text(values[0]["chance"] + 0.03, 0, "by chance", color="white", va="center", fontsize=8.5)
    right.set_title("... and to remember", loc="left", fontweight="bold")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
