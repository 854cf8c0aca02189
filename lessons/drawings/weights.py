"""Drawings of lesson 5: quantization and the files of a checkpoint."""

from __future__ import annotations

from drawings.svg import Drawing


def quantization() -> Drawing:
    """Weights rounded to a grid with a scale."""
    d = Drawing(
        "Quantization: each weight is rounded to the nearest of a few equally spaced levels"
        " and stored as a small integer",
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
    """The files in a checkpoint's folder."""
    d = Drawing(
        "A checkpoint is a folder: weights, optimizer, state, settings, tokenizer,"
        " and a manifest with the hash of each",
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


def float_bits() -> Drawing:
    """The 32 bits of a float32, and the 16 that bfloat16 keeps."""
    d = Drawing(
        "A float32 has 32 bits: one for the sign, eight for the size, 23 for the digits; bfloat16"
        " keeps the first 16",
        236,
    )
    bits = "00111110101011001011101111001001"
    parts = (
        ("sign", 0, 1, "red"),
        ("size: a power of 2", 1, 9, "orange"),
        ("digits", 9, 32, "blue"),
    )
    for y, n, name in ((66, 32, "float32"), (146, 16, "bfloat16")):
        d.text(20, y + 14, name, 13, bold=True)
        for label, begin, end, color in parts:
            end = min(end, n)
            d.cells(100 + begin * 18.8, y, list(bits[begin:end]), 16.4, 28, color, 2.4, 12)
            if n == 32:
                middle = 100 + (begin + end) / 2 * 18.8
                d.text(max(middle, 112), 34 if begin else 52, label, 13, "middle", f"{color}-text")
    d.text(100 + 16 * 18.8 + 12, 160, "the rest is cut off: fewer digits", 13, color="soft")
    d.caption("+ 2^(125 - 127) · 1.349 = 0.33737. Cut to 16 bits: 0.33594.")
    return d


def three_in_one() -> Drawing:
    """OpenAI's c_attn, cut in three and transposed."""
    d = Drawing(
        "OpenAI's c_attn holds query, key and value side by side; to load it, cut it in three and"
        " turn each part over",
        286,
    )
    names = (("W_query", "blue"), ("W_key", "orange"), ("W_value", "green"))
    d.text(20, 30, "in the release: c_attn [in, 3 · in]", 14, bold=True)
    d.text(440, 30, "here: [out, in] each", 14, bold=True)
    for i, (name, color) in enumerate(names):
        for column in range(4):
            d.box(20 + i * 96 + column * 23, 60, 20, 116, str(column + 1), color, 12, corner=3)
        d.text(66 + i * 96, 196, name.removeprefix("W_"), 13, "middle", f"{color}-text")
        y = 52 + i * 66
        for row in range(4):
            d.box(520, y + row * 14, 116, 12, color=color, corner=2)
            d.text(512, y + row * 14 + 6, str(row + 1), 10, "end", "soft", mono=True)
        d.text(648, y + 27, name, 13, mono=True, color=f"{color}-text")
        d.arrow((318, 118), (480, y + 27), color=color)
    d.caption("Column 1 becomes row 1: x @ w there is x @ w.T here.")
    return d


DRAWINGS = (quantization, checkpoint_files, float_bits, three_in_one)
