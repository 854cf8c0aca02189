"""Drawings of lesson 7: heads that share keys and values."""

from __future__ import annotations

from drawings.svg import Drawing


def grouped_heads() -> Drawing:
    """Query heads above the heads of keys and values that they read."""
    d = Drawing(
        "With grouped queries two query heads read the same keys and values, so the cache is half"
        " as large",
        236,
    )
    for left, title, n_shared in ((20, "G = H: each has its own", 4), (380, "G = 2: shared", 2)):
        d.text(left, 28, title, 14, bold=True)
        for h in range(4):
            x = left + h * 82
            d.box(x, 52, 66, 32, f"query {h}", "pink", 13)
        width = 66 + (4 // n_shared - 1) * 82
        for g in range(n_shared):
            x = left + g * 82 * (4 // n_shared)
            d.box(x, 136, width, 40, f"keys and|values {g}", "blue", 12)
            for h in range(4 // n_shared):
                middle = x + 33 + h * 82
                d.arrow((middle, 84), (middle, 136))
    d.caption("Only what is blue is kept in the cache.")
    return d


DRAWINGS = (grouped_heads,)
