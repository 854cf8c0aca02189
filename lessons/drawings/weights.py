"""Drawings of lesson 5: quantization and the files of a checkpoint."""

from __future__ import annotations

from drawings.svg import Drawing


def quantization() -> Drawing:
    """Weights rounded to a grid with a scale."""
    d = Drawing(
        (
            "Quantization: each weight is rounded to the nearest of a few equally spaced levels"
            " and stored as a small integer"
        ),
        270,
    )
    values = (-0.81, -0.35, -0.12, 0.22, 0.47, 0.88)
    left, right, scale = 60, 660, 0.9 / 4

    def at(value: float) -> float:
        return left + (value + 1) / 2 * (right - left)

    d.text(20, 26, "weights, 32 bits each", 14, bold=True)
    d.line((left, 78), (right, 78))
    for value in values:
        d.text(at(value), 54, f"{value:.2f}", 13, "middle", mono=True)
        d.circle(at(value), 78, 5, color="blue")
        level = round(value / scale)
        d.arrow((at(value), 86), (at(level * scale), 138), color="orange")
    d.line((left, 146), (right, 146))
    for level in range(-4, 5):
        x = at(level * scale)
        d.line((x, 139), (x, 153))
        d.text(x, 170, str(level), 13, "middle", "soft", mono=True)
    d.text(20, 200, "integers, 4 bits each", 14, bold=True)
    d.cells(196, 186, [str(round(v / scale)) for v in values], 44, 28, "orange", 6)
    d.text(508, 200, "and one scale: 0.225", 14)
    d.caption(
        "weight ≈ integer · scale. The error is at most half a step,"
        " and one scale serves many weights."
    )
    return d


def checkpoint_files() -> Drawing:
    """What is in a checkpoint's folder."""
    d = Drawing(
        (
            "A checkpoint is a folder: weights, optimizer, state, settings, tokenizer,"
            " and a manifest with the hash of each"
        ),
        340,
    )
    files = (
        ("model.safetensors", "all weights", "blue"),
        ("optim.safetensors", "averages of the optimizer", "green"),
        ("state.json", "step and random state, to resume", "green"),
        ("config.json", "the model's shape and all settings", "orange"),
        ("tokenizer.json", "which id is which piece of text", "pink"),
    )
    for i, (name, what, color) in enumerate(files):
        y = 22 + i * 42
        d.box(20, y, 180, 34, name, color, 14, mono=True)
        d.text(214, y + 17, what, 14)
        d.line((470, y + 17), (508, y + 17))
    d.line((508, 39), (508, 207))
    d.arrow((508, 123), (540, 123))
    d.box(540, 92, 156, 62, "manifest.json|size and SHA-256|of each file", "grey", 13)
    d.text(20, 252, "model.safetensors, byte by byte", 14, bold=True)
    parts = (
        (92, "8 bytes:|length", "grey"),
        (216, "header as JSON: names,|types, shapes, places", "orange"),
    )
    x = 20
    for w, label, color in (
        *parts,
        (110, "tok_emb", "blue"),
        (110, "W_query", "blue"),
        (132, "...", "blue"),
    ):
        d.box(x, 270, w, 46, label, color, 13, mono=color == "blue", corner=4)
        x += w + 4
    return d


DRAWINGS = (quantization, checkpoint_files)
