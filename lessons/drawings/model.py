"""Drawings of lesson 3: a transformer block, the residual stream, the whole GPT."""

from __future__ import annotations

from drawings.svg import Drawing


def transformer_block() -> Drawing:
    """Norm, attention, add; norm, feed-forward, add."""
    d = Drawing(
        "A transformer block: norm, attention, added back; norm, feed-forward network, added back",
        246,
    )
    y = 126
    d.text(24, y, "x", 17, bold=True, mono=True)
    d.arrow((44, y), (92, y))
    d.box(92, y - 26, 82, 52, "norm1", "grey", 14)
    d.arrow((174, y), (196, y))
    d.box(196, y - 26, 112, 52, "attention", "blue", 15)
    d.arrow((308, y), (338, y))
    d.circle(356, y, 18, "+", "green", 18)
    d.arrow((374, y), (414, y))
    d.box(414, y - 26, 82, 52, "norm2", "grey", 14)
    d.arrow((496, y), (518, y))
    d.box(518, y - 26, 88, 52, "feed-|forward", "orange", 14)
    d.arrow((606, y), (630, y))
    d.circle(648, y, 18, "+", "green", 18)
    d.arrow((666, y), (702, y))
    for x0, x1 in ((66, 356), (392, 648)):
        d.arrow((x0, y), (x0, 52), (x1, 52), (x1, y - 18), color="green")
    d.text(211, 38, "shortcut", 13, "middle", "green-text")
    d.text(520, 38, "shortcut", 13, "middle", "green-text")
    d.text(252, 172, "tokens exchange", 13, "middle", "soft")
    d.text(252, 190, "information", 13, "middle", "soft")
    d.text(562, 172, "each token", 13, "middle", "soft")
    d.text(562, 190, "by itself", 13, "middle", "soft")
    d.caption("Shape in = shape out = [B, T, C], so blocks can be stacked.")
    return d


def residual_stream() -> Drawing:
    """A stream of vectors that every layer reads from and adds to."""
    d = Drawing(
        (
            "The residual stream: a vector for each token flows through all blocks;"
            " each layer reads it and adds to it"
        ),
        262,
    )
    y = 190
    d.box(112, y - 14, 498, 28, "residual stream, [T, C]", "green", 14)
    d.arrow((84, y), (112, y))
    d.box(14, y - 22, 70, 44, "embed-|ding", "pink", 13)
    d.arrow((610, y), (636, y))
    d.box(636, y - 22, 70, 44, "norm,|head", "pink", 13)
    layers = (
        ("attention", "blue"),
        ("feed-forward", "orange"),
        ("attention", "blue"),
        ("feed-forward", "orange"),
    )
    for i, (label, color) in enumerate(layers):
        x = 130 + i * 122
        d.box(x, 76, 106, 44, label, color, 13)
        d.arrow((x + 24, y - 14), (x + 24, 120))
        d.arrow((x + 82, 120), (x + 82, y - 14), color="green")
        d.text(x + 18, 148, "read", 12, "end", "soft")
        d.text(x + 88, 148, "add", 12, color="green-text")
    for x, label in ((244, "block 1"), (488, "block 2")):
        d.line((x - 114, 62), (x - 114, 54), (x + 114, 54), (x + 114, 62))
        d.text(x, 40, label, 14, "middle", bold=True)
    d.caption(
        "Nothing is ever overwritten, only added. So errors flow straight back to the first layer."
    )
    return d


def gpt_model() -> Drawing:
    """Tables, blocks, norm, head."""
    d = Drawing(
        (
            "GPT: token and position embeddings are added, pass through equal blocks, a norm"
            " and a head give logits"
        ),
        236,
    )
    y = 96
    d.box(20, y - 46, 116, 40, "token table", "pink", 14)
    d.box(20, y + 6, 116, 40, "positions", "pink", 14)
    d.line((136, y - 26), (156, y - 26), (156, y + 26), (136, y + 26))
    d.arrow((156, y), (180, y))
    d.circle(196, y, 16, "+", "green", 17)
    d.arrow((212, y), (242, y))
    for i in (2, 1, 0):
        d.box(242 + i * 12, y - 34 - i * 8, 130, 64, "" if i else "block", "blue", 16)
    d.arrow((398, y - 16), (440, y - 16))
    d.text(318, 150, "x n_layers", 13, "middle", "soft", mono=True)
    d.box(440, y - 42, 74, 52, "final|norm", "grey", 14)
    d.arrow((514, y - 16), (544, y - 16))
    d.box(544, y - 42, 74, 52, "head", "pink", 15)
    d.arrow((618, y - 16), (648, y - 16))
    d.text(652, y - 16, "logits", 14, bold=True)
    for x, shape in ((78, "[B, T]"), (225, "[B, T, C]"), (419, "[B, T, C]"), (650, "[B, T, V]")):
        d.text(x, 184, shape, 13, "middle", "soft", mono=True)
    d.caption("One row of V logits for each position: a guess about the token after it.")
    return d


DRAWINGS = (transformer_block, residual_stream, gpt_model)
