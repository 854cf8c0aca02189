"""Drawings of lesson 2: likeness; three views; look, weigh, mix; the causal mask; heads."""

from __future__ import annotations

import math

from drawings.svg import Drawing

WORDS = ("the", "cup", "was", "wet")


def dot_product() -> Drawing:
    """Two vectors, their products number by number, and the sum."""
    d = Drawing(
        "The dot product of steps and small: three products of two numbers, added up",
        230,
    )
    steps, small = (0.56, 0.84, 0.56), (0.43, 0.20, 0.90)
    products = [a * b for a, b in zip(steps, small)]
    rows = (("steps", steps, "blue", 2), ("small", small, "orange", 2))
    for row, (name, numbers, color, digits) in enumerate(
        (*rows, ("products", products, "grey", 4))
    ):
        y = 24 + row * 54
        d.text(130, y + 17, name, 14, "end", bold=True)
        d.cells(160, y, [f"{n:.{digits}f}" for n in numbers], 96, 34, color, 24, 14)
    for column in range(3):
        d.text(208 + column * 120, 68, "·", 16, "middle", bold=True)
        d.text(208 + column * 120, 122, "=", 14, "middle", "soft")
    for column in range(2):
        d.text(268 + column * 120, 149, "+", 14, "middle")
    d.text(538, 149, "=", 14, "middle")
    d.box(560, 132, 110, 34, f"{sum(products):.4f}", "green", 14, mono=True, corner=4)
    d.caption("Large where both are large. The last pair adds most to this sum.")
    return d


def three_views() -> Drawing:
    """One token's vector times three matrices."""
    d = Drawing(
        "Three views of one token: its vector times three learned matrices is its query, its key"
        " and its value",
        272,
    )
    d.text(90, 30, "one token, x", 14, "middle", bold=True)
    d.cells(30, 108, [""] * 3, 36, 34, "grey")
    d.text(88, 164, "[C]", 13, "middle", "soft", mono=True)
    views = (
        ("W_query", "query", "what it looks for", "pink"),
        ("W_key", "key", "what it is found by", "blue"),
        ("W_value", "value", "what it passes on", "green"),
    )
    for row, (matrix, name, meaning, color) in enumerate(views):
        y = 44 + row * 64
        d.arrow((158, 125), (214, y + 17))
        d.box(220, y, 104, 34, matrix, "grey", 14, mono=True)
        d.arrow((328, y + 17), (376, y + 17))
        d.cells(384, y, [""] * 2, 36, 34, color)
        d.text(476, y + 17, name, 14, bold=True)
        d.text(536, y + 17, meaning, 13, color="soft")
    d.text(272, 30, "[C, D]", 13, "middle", "soft", mono=True)
    d.text(422, 30, "[D]", 13, "middle", "soft", mono=True)
    d.caption("The same three matrices for every token. Here C = 3 and D = 2.")
    return d


def look_weigh_mix() -> Drawing:
    """One query against all keys; the weights mix the values."""
    d = Drawing(
        "Attention for one token: its query is compared with all keys, softmax makes weights,"
        " the weights mix the values",
        314,
    )
    weights = (0.05, 0.6, 0.1, 0.25)
    for i, word in enumerate(WORDS):
        x = 150 + i * 140
        d.box(x, 24, 110, 32, word, "pink" if i == 3 else "grey", 15)
        d.arrow((x + 55, 56), (x + 55, 80))
        d.box(x, 80, 52, 30, "key", "blue", 13)
        d.box(x + 58, 80, 52, 30, "value", "green", 13)
        d.text(x + 26, 150, f"{weights[i]:.2f}", 14, "middle", mono=True)
        d.arrow((x + 26, 110), (x + 26, 140))
        d.box(x + 6, 164, 98, 16, color="grey", corner=3)
        d.box(x + 6, 164, max(98 * weights[i], 6), 16, color="orange", corner=3)
    d.box(20, 80, 80, 30, "query", "pink", 14)
    d.text(60, 60, "of wet", 12, "middle", "soft")
    d.arrow((100, 95), (148, 95))
    d.text(20, 150, "weights", 14, bold=True)
    d.text(20, 172, "add up to 1", 12, color="soft")
    for i in range(4):
        d.line((205 + i * 140, 184), (205 + i * 140, 206))
    d.line((205, 206), (625, 206))
    d.arrow((415, 206), (415, 228))
    d.box(252, 228, 326, 36, "0.05 v1 + 0.60 v2 + 0.10 v3 + 0.25 v4", "green", 14, mono=True)
    d.text(20, 246, "mixture of values", 14, bold=True)
    d.caption("Look: query times key. Weigh: softmax. Mix: weights times values.")
    return d


def causal_mask() -> Drawing:
    """Scores with minus infinity above the diagonal, and the weights that come out."""
    d = Drawing(
        "The causal mask: scores above the diagonal become minus infinity,"
        " so softmax gives later tokens a weight of 0",
        284,
    )
    scores = ((1.2,), (0.4, 0.9), (0.3, 1.5, 0.2), (0.1, 2.0, 0.6, 1.1))
    powers = [[math.exp(score) for score in row] for row in scores]
    weights = [[power / sum(row) for power in row] for row in powers]
    for x, title, rows, hidden in ((92, "scores", scores, "-∞"), (440, "weights", weights, "0")):
        d.text(x + 114, 26, title, 14, "middle", bold=True)
        for i in range(4):
            d.text(x - 10, 84 + i * 42, WORDS[i], 13, "end", "soft")
            d.text(x + 27 + i * 58, 50, WORDS[i], 13, "middle", "soft")
            for j in range(4):
                seen = j <= i
                label = f"{rows[i][j]:.{1 if x < 300 else 2}f}" if seen else hidden
                color = ("blue" if x < 300 else "green") if seen else "grey"
                d.box(x + j * 58, 66 + i * 42, 54, 38, label, color, 14, mono=True, corner=4)
    d.arrow((334, 148), (388, 148))
    d.text(361, 132, "softmax", 13, "middle", "soft")
    d.caption("Row: the token that looks. Column: the token looked at. Nothing looks ahead.")
    return d


def heads() -> Drawing:
    """One matrix product, cut into heads."""
    d = Drawing(
        "Heads: one matrix makes all queries, each vector is cut into equal parts,"
        " each head attends alone, parts are joined",
        270,
    )
    d.text(52, 30, "x", 14, "middle", bold=True)
    d.text(52, 212, "[T, C]", 13, "middle", "soft", mono=True)
    for row in range(4):
        d.box(24, 52 + row * 36, 56, 30, color="grey", corner=4)
    d.arrow((88, 122), (136, 122))
    d.text(112, 106, "W", 14, "middle", mono=True)
    colors = ("blue", "orange", "pink")
    d.text(230, 30, "queries, keys, values", 14, "middle", bold=True)
    d.text(230, 212, "[T, H·D]", 13, "middle", "soft", mono=True)
    for row in range(4):
        d.cells(146, 52 + row * 36, [""] * 3, 52, 30, colors, 4)
    d.text(440, 30, "heads, each alone", 14, "middle", bold=True)
    for h, color in enumerate(colors):
        y = 50 + h * 50
        d.arrow((318, 122), (360, y + 20))
        d.box(366, y, 148, 40, f"attention {h + 1}", color, 14)
        d.arrow((518, y + 20), (560, 122))
    d.text(440, 212, "[H, T, D]", 13, "middle", "soft", mono=True)
    d.text(632, 30, "joined, then", 14, "middle", bold=True)
    d.text(632, 48, "mixed by out_proj", 13, "middle", "soft")
    d.text(632, 212, "[T, C]", 13, "middle", "soft", mono=True)
    for row in range(4):
        d.cells(566, 62 + row * 34, [""] * 3, 42, 28, colors, 4)
    d.caption(
        "C is the width of a token's vector, H the number of heads, and D = C / H."
        " The cut costs nothing."
    )
    return d


DRAWINGS = (dot_product, three_views, look_weigh_mix, causal_mask, heads)
