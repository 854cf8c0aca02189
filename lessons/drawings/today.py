"""Drawings of lesson 7: heads that share keys and values; experts; a latent cache."""

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


def experts() -> Drawing:
    """A router, four experts of which two run, and their weighted sum."""
    d = Drawing(
        "A mixture of experts: the router gives four experts scores, the best two run, and their"
        " outputs are added by weight",
        286,
    )
    d.box(20, 112, 80, 36, "token", "pink", 14)
    d.arrow((100, 130), (140, 130))
    d.box(146, 112, 90, 36, "router", "grey", 14)
    scores, best = (0.1, 0.54, 0.06, 0.3), {1: 0.64, 3: 0.36}
    for expert, score in enumerate(scores):
        y = 20 + expert * 56
        runs = expert in best
        d.line((240, 130), (316, y + 20), dashed=not runs, arrow=True)
        label = f"expert {expert}|score {score:.2f}"
        d.box(322, y, 110, 40, label, "blue" if runs else "grey", 12)
        if runs:
            d.arrow((436, y + 20), (574, 130))
            d.text(505, (y + 150) / 2, f"· {best[expert]:.2f}", 13, "middle", mono=True, halo=True)
        else:
            d.text(446, y + 20, "does not run", 12, color="soft")
    d.circle(596, 130, 16, "+", "green")
    d.arrow((612, 130), (650, 130))
    d.text(656, 130, "out", 14, bold=True)
    d.caption("All parameters are kept; a token pays for two experts. 0.54 and 0.30 become shares.")
    return d


def latent_cache() -> Drawing:
    """The latent that is stored for each token, and the keys and values computed from it."""
    d = Drawing(
        "Latent attention keeps a small vector for each token, from which the keys and values of"
        " all heads follow",
        258,
    )
    d.text(20, 28, "kept for each token", 14, bold=True)
    d.text(300, 28, "computed when it is needed", 14, bold=True)
    for token in range(3):
        y = 62 + token * 50
        d.text(20, y + 15, f"token {token}", 13, color="soft")
        d.cells(84, y, [""] * 4, 24, 30, "blue", 2)
        d.cells(194, y, [""] * 1, 24, 30, "orange", 2)
        d.arrow((226, y + 15), (292, y + 15))
        for head in range(3):
            left = 300 + head * 134
            d.cells(left, y, [""] * 2, 26, 30, "grey", 2)
            d.cells(left + 62, y, [""] * 2, 26, 30, "grey", 2)
            if token == 0:
                d.text(left + 58, 51, f"head {head}: key, value", 11, "middle", "soft")
    d.caption("Blue: the latent vector c. Orange: one rotated key for the positions of all heads.")
    return d


DRAWINGS = (grouped_heads, experts, latent_cache)
