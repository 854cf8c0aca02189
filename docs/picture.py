"""Draw what the first command gives: the loss of a run against the floor, what it wrote as it learned, and what it can do.

python docs/picture.py runs/quickstart docs/quickstart.png
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INK, BLUE, ORANGE, GREY = "#222222", "#0072B2", "#D55E00", "#888888"


def samples(run: Path) -> list[tuple[int, str]]:
    """(step, text) of each sample in a run's samples.md."""
    parts = re.split(r"\n## Step (\d+)[^\n]*\n", (run / "samples.md").read_text(encoding="utf-8"))
    return [(int(step), " ".join(text.split())) for step, text in zip(parts[1::2], parts[2::2])]


def draw(run: Path, out: Path) -> None:
    """Three panels: loss, text, skills."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    skills = json.loads((run / "skills.json").read_text(encoding="utf-8"))
    looks = [row for row in rows if "val_bits_per_byte" in row]
    figure = plt.figure(figsize=(13, 4.2), dpi=150, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.0, 1.55, 0.75])
    left.plot([r["tokens"] / 1e6 for r in looks], [r["val_bits_per_byte"] for r in looks], color=BLUE, lw=2, marker="o", ms=3)
    left.axhline(skills["floor_bits_per_byte"], color=ORANGE, lw=1.5, ls="--")
    end = looks[-1]["tokens"] / 1e6
    left.text(
        end, skills["floor_bits_per_byte"] * 0.85, "floor: the entropy of the stories", color=ORANGE, va="top", ha="right", fontsize=9
    )
    left.set(xlabel="million tokens learned from", ylabel="bits per byte, held-out stories", ylim=(0, None))
    left.set_title("It learns ...", loc="left", fontweight="bold")
    told = samples(run)
    chosen = [(told[0], 3), (told[len(told) // 4], 3), (told[-1], 9)]
    middle.axis("off")
    middle.set_title("... to write ...", loc="left", fontweight="bold")
    y = 1.0
    for (step, text), room in chosen:
        middle.text(0, y, f"after {step} steps", color=GREY, fontsize=8.5, va="top", transform=middle.transAxes)
        lines = textwrap.wrap(text, 74)
        if len(lines) > room:
            lines = [*lines[: room - 1], lines[room - 1] + " ..."]
        middle.text(
            0, y - 0.05, "\n".join(lines), color=INK, fontsize=9, va="top", family="serif", transform=middle.transAxes, linespacing=1.3
        )
        y -= 0.11 + 0.049 * len(lines)
    names = list(skills["skills"])
    values = [skills["skills"][name] for name in names]
    right.barh(names, [v["accuracy"] for v in values], color=BLUE, height=0.6)
    right.scatter([v["chance"] for v in values], names, color=ORANGE, marker="|", s=250, lw=2.5, zorder=3)
    right.set(xlim=(0, 1.02), xlabel="share right on new stories")
    right.invert_yaxis()
    right.text(values[0]["chance"] + 0.03, 0, "by chance", color="white", va="center", fontsize=8.5)
    right.set_title("... and to remember", loc="left", fontweight="bold")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
