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
        "The residual stream: a vector for each token flows through all blocks;"
        " each layer reads it and adds to it",
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
        "GPT: token and position embeddings are added, pass through equal blocks, a norm"
        " and a head give logits",
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


def layer_norm() -> Drawing:
    """Two tokens with different means and spreads, before and after."""
    d = Drawing(
        "Layer norm: the numbers of each token are shifted to mean 0 and scaled to variance 1, each"
        " token by itself",
        246,
    )
    tokens = (
        ("token 1", (2.0, 5.0, 8.0, 9.0), "blue"),
        ("token 2", (-4.0, -3.6, -3.0, -1.8), "orange"),
    )
    for x, title, low, high in ((100, "before", -5, 10), (440, "after", -2.2, 2.2)):
        d.text(x + 120, 28, title, 15, "middle", bold=True)
        for row, (name, numbers, color) in enumerate(tokens):
            y = 84 + row * 76
            mean = sum(numbers) / 4
            spread = (sum((number - mean) ** 2 for number in numbers) / 4) ** 0.5
            if title == "after":
                numbers, mean = tuple((n - mean) / spread for n in numbers), 0.0
            else:
                d.text(20, y, name, 14, bold=True, color=f"{color}-text")
            d.line((x, y), (x + 250, y))
            for number in numbers:
                d.circle(x + 250 * (number - low) / (high - low), y, 7, color=color)
            middle = x + 250 * (mean - low) / (high - low)
            d.line((middle, y - 20), (middle, y + 20), color=color, width=2.4)
            d.text(middle, y + 32, f"mean {mean:.1f}", 12, "middle", "soft")
    d.arrow((372, 122), (418, 122))
    d.caption("No token sees another here. A learned scale and shift may undo what does not help.")
    return d


def feed_forward() -> Drawing:
    """C numbers, 4C numbers, the activation, C numbers."""
    d = Drawing(
        "The feed-forward network of one token: a matrix widens C numbers to 4C, GELU bends each, a"
        " matrix narrows them to C",
        282,
    )
    columns = (
        (60, 3, "blue", "C"),
        (246, 12, "orange", "4C"),
        (432, 12, "orange", "4C"),
        (618, 3, "green", "C"),
    )
    for x, n, color, label in columns:
        top = 132 - n * 8
        for i in range(n):
            d.box(x, top + i * 16, 40, 14, color=color, corner=3)
        d.text(x + 20, top - 14, label, 14, "middle", mono=True)
    for x, label in ((110, "Linear"), (482, "Linear")):
        d.arrow((x, 132), (x + 126, 132))
        d.text(x + 62, 114, label, 14, "middle", bold=True)
    d.arrow((296, 132), (422, 132))
    d.text(359, 114, "GELU", 14, "middle", bold=True)
    d.text(359, 150, "number by number", 12, "middle", "soft")
    d.caption("The same two matrices for every token. They are two thirds of a block's parameters.")
    return d


def weight_tying() -> Drawing:
    """One matrix as the token table at the entrance and as the head at the exit."""
    d = Drawing(
        "Weight tying: one matrix is the token table, which gives a row for an id, and the head,"
        " which compares a vector with every row",
        276,
    )
    d.text(360, 28, "one matrix [V, C]", 14, "middle", bold=True)
    for row in range(5):
        d.cells(290, 50 + row * 34, [""] * 4, 32, 28, "pink" if row == 2 else "grey", 4)
    d.text(90, 28, "at the entrance", 14, "middle", bold=True)
    d.box(30, 118, 60, 28, "id 2", "orange", 14, mono=True)
    d.arrow((90, 132), (284, 132))
    d.text(186, 116, "take the row", 13, "middle", "soft")
    d.text(610, 28, "at the exit", 14, "middle", bold=True)
    for row, logit in enumerate(("0.3", "-1.2", "4.1", "0.9", "-0.4")):
        d.arrow((440, 64 + row * 34), (560, 64 + row * 34))
        d.box(566, 50 + row * 34, 64, 28, logit, "green" if row == 2 else "grey", 13, mono=True)
        d.text(500, 54 + row * 34, "· vector", 12, "middle", "soft")
    d.text(642, 132, "logits", 13, color="soft")
    d.caption("A token whose row points where the vector points gets a large logit.")
    return d


def writing_loop() -> Drawing:
    """Tokens in, logits of the last position, one token chosen, appended."""
    d = Drawing(
        "The loop that writes: all tokens go into the model, the last position's logits choose one"
        " token, which is appended",
        236,
    )
    y = 110
    d.cells(20, y - 18, ["Hello", ",", "I", "am"], 48, 36, "blue", mono=False)
    d.box(228, y - 18, 48, 36, "?", "green", 15, corner=4)
    d.arrow((280, y), (308, y))
    d.box(308, y - 32, 84, 64, "model", "grey", 16)
    d.arrow((392, y), (422, y))
    for i, height in enumerate((14, 46, 24, 34, 8)):
        color = "green" if i == 1 else "grey"
        d.box(426 + i * 22, y + 30 - height, 18, height, color=color, corner=2)
    d.text(480, y + 46, "logits of the", 12, "middle", "soft")
    d.text(480, y + 62, "last position", 12, "middle", "soft")
    d.arrow((540, y), (574, y))
    d.box(576, y - 18, 112, 36, "the likeliest", "green", 14)
    d.arrow((632, y - 18), (632, 48), (252, 48), (252, y - 18), color="green")
    d.text(442, 32, "append it, and go around again", 13, "middle", "green-text")
    d.caption("Every round makes one token.")
    return d


DRAWINGS = (
    transformer_block,
    residual_stream,
    gpt_model,
    layer_norm,
    feed_forward,
    weight_tying,
    writing_loop,
)
