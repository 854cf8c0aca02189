"""Drawings of lesson 4: perplexity, temperature, sampling, the key/value cache."""

from __future__ import annotations

import math

from drawings.svg import Drawing


def sampling() -> Drawing:
    """A distribution, cut by top-k and by top-p."""
    d = Drawing(
        "Sampling cuts a distribution: top-k keeps the k likeliest tokens,"
        " top-p as many as together reach p",
        292,
    )
    tokens = ("forward", "toward", "closer", "on", "inches", "pizza")
    shares = (0.45, 0.25, 0.15, 0.08, 0.05, 0.02)
    panels = (
        (20, "the model's choice", 6, ""),
        (258, "top-k, k = 2", 2, "blue"),
        (496, "top-p, p = 0.8", 3, "orange"),
    )
    for x, title, kept, color in panels:
        d.text(x, 28, title, 14, bold=True)
        total = sum(shares[:kept])
        for i, (token, share) in enumerate(zip(tokens, shares)):
            y = 50 + i * 32
            d.text(x + 62, y + 11, token, 13, "end", "ink" if i < kept else "soft")
            value = share / total if i < kept else 0
            if i < kept:
                d.box(x + 70, y, max(90 * value, 3), 22, color=color or "grey", corner=3)
                d.text(
                    x + 78 + max(90 * value, 3), y + 11, f"{value:.2f}".lstrip("0"), 12, mono=True
                )
            else:
                d.line((x + 70, y + 11), (x + 86, y + 11), dashed=True)
    d.caption(
        "What is cut gets probability 0; the rest is divided by its sum,"
        " so that it adds up to 1 again."
    )
    return d


def kv_cache() -> Drawing:
    """Keys and values of earlier tokens are kept; each step computes one column."""
    d = Drawing(
        "The key/value cache grows by one column a step:"
        " earlier keys and values are kept, only the new token is computed",
        284,
    )
    steps = (("prompt", 3, 3), ("step 1", 1, 4), ("step 2", 1, 5), ("step 3", 1, 6))
    tokens = ("Every", "effort", "moves", "you", "a", "bit")
    for row, (label, new, length) in enumerate(steps):
        y = 34 + row * 52
        d.text(20, y + 18, label, 14, bold=True)
        for i in range(length):
            fresh = i >= length - new
            d.box(100 + i * 70, y, 64, 36, tokens[i], "orange" if fresh else "blue", 13, corner=4)
        computed = f"{new} new" if new > 1 else "1 new"
        d.text(536, y + 18, f"computes {computed}, reads {length}", 13, color="soft")
    d.box(100, 244, 18, 16, color="orange", corner=3)
    d.text(126, 252, "computed in this step", 13, color="soft")
    d.box(300, 244, 18, 16, color="blue", corner=3)
    d.text(326, 252, "kept: keys and values of earlier tokens", 13, color="soft")
    return d


def perplexity() -> Drawing:
    """A loss as a number of equally likely choices."""
    d = Drawing(
        "Perplexity is a number of choices: a loss of 0 is one choice, 0.69 two equally likely"
        " ones, 1.39 four, 2.08 eight",
        262,
    )
    d.text(20, 28, "loss", 14, bold=True)
    d.text(380, 28, "as unsure as a choice among", 14, "middle", bold=True)
    d.text(700, 28, "perplexity", 14, "end", bold=True)
    for row, n in enumerate((1, 2, 4, 8)):
        y = 48 + row * 46
        d.text(20, y + 17, f"{math.log(n):.2f}", 15, mono=True)
        w = (480 - 4 * (n - 1)) / n
        label = "1" if n == 1 else f"1/{n}"
        d.cells(140, y, [label] * n, w, 34, "blue" if n > 1 else "green", size=14)
        d.text(690, y + 17, str(n), 15, "end", mono=True)
    d.caption(
        "Perplexity is e to the power of the loss. No idea among 50,257 tokens: a loss of 10.82."
    )
    return d


def temperature() -> Drawing:
    """One set of logits at three temperatures."""
    d = Drawing(
        "Temperature: below 1 the likeliest token wins nearly always, at 1 the distribution is as"
        " it is, above 1 it is flatter",
        232,
    )
    logits = {"forward": 2.0, "toward": 1.2, "closer": 0.0, "pizza": -1.5}
    panels = (
        (20, 0.5, "blue", "sure"),
        (258, 1.0, "green", "as it is"),
        (496, 3.0, "orange", "daring"),
    )
    for x, t, color, word in panels:
        d.text(x, 28, f"temperature {t:g}", 14, bold=True)
        d.text(x + 140, 28, word, 13, color=f"{color}-text")
        powers = [math.exp(logit / t) for logit in logits.values()]
        for i, (token, power) in enumerate(zip(logits, powers)):
            y, share = 52 + i * 34, power / sum(powers)
            d.text(x + 62, y + 12, token, 13, "end")
            d.box(x + 70, y, max(100 * share, 3), 24, color=color, corner=3)
            d.text(x + 78 + max(100 * share, 3), y + 12, f"{share:.2f}".lstrip("0"), 12, mono=True)
    d.caption("Logits are divided by the temperature before softmax. Their order never changes.")
    return d


DRAWINGS = (sampling, kv_cache, perplexity, temperature)
