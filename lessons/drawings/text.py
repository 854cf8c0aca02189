"""Drawings of lesson 1: byte-pair encoding, windows and batches, embeddings."""

from __future__ import annotations

from drawings.svg import Drawing


def bpe_merges() -> Drawing:
    """Three merges on a few words."""
    d = Drawing(
        "Byte-pair encoding: the most frequent pair of neighbors becomes one token,"
        " three times in a row",
        268,
    )
    rows = (
        ("letters", "t h e _", "t h e m", "t h e _"),
        ("merge 1: t h", "th e _", "th e m", "th e _"),
        ("merge 2: th e", "the _", "the m", "the _"),
        ("merge 3: the ␣", "the_", "the m", "the_"),
    )
    new = {1: "th", 2: "the", 3: "the_"}
    d.text(700, 24, "tokens", 13, "end", "soft")
    for number, (label, *words) in enumerate(rows):
        y = 44 + number * 50
        d.text(20, y + 15, label, 14, bold=number == 0, mono=number > 0)
        x, total = 178, 0
        for word in words:
            for token in word.split():
                w = 22 + 11 * len(token)
                color = (
                    "orange" if token == new.get(number) else "blue" if len(token) > 1 else "grey"
                )
                d.box(x, y, w, 30, token.replace("_", "␣"), color, 15, mono=True, corner=4)
                x, total = x + w + 4, total + 1
            x += 16
        d.text(694, y + 15, str(total), 15, "end", mono=True)
    d.caption("Orange: the token that this merge has made. Every merge makes the text shorter.")
    return d


def batch_windows() -> Drawing:
    """A text cut into windows, and targets one token later."""
    d = Drawing(
        "A text cut into windows of four tokens; the targets are the same windows, one token later",
        318,
    )
    tokens = ["I", "had", "always", "thought", "Jack", "Gis", "burn", "rather", "a"]
    d.text(20, 34, "the text, as tokens", 13, color="soft")
    for i, token in enumerate(tokens):
        d.box(20 + i * 75, 50, 71, 34, token, "grey", 13, corner=4)
    for start in (0, 4):
        x, y = 20 + start * 75, 104
        d.line((x + 2, y), (x + 294, y), color="blue", width=4)
        d.line((x + 77, y + 12), (x + 369, y + 12), color="orange", width=4)
    d.text(60, 140, "window 1", 13, color="soft")
    d.text(360, 140, "window 2", 13, color="soft")
    for name, x, shift, color in (("inputs x", 20, 0, "blue"), ("targets y", 376, 1, "orange")):
        d.text(x, 178, name, 14, bold=True, color=f"{color}-text")
        d.text(x + 324, 178, "shape (2, 4)", 13, "end", "soft", mono=True)
        for row in range(2):
            for i in range(4):
                d.box(
                    x + i * 81,
                    194 + row * 38,
                    77,
                    34,
                    tokens[row * 4 + i + shift],
                    color,
                    13,
                    corner=4,
                )
    d.caption("One batch: two windows. Each of its eight targets asks: what came next?")
    return d


def embedding() -> Drawing:
    """Token table and position table, added."""
    d = Drawing(
        "Embedding: a token id picks a row of the token table,"
        " its position a row of the position table; they are added",
        258,
    )
    d.text(60, 28, "ids", 14, "middle", bold=True)
    d.text(240, 28, "token table [V, C]", 14, "middle", bold=True)
    d.text(430, 28, "position table [T, C]", 14, "middle", bold=True)
    d.text(625, 28, "into the model [T, C]", 14, "middle", bold=True)
    ids = [2, 0, 3]
    colors = ["green", "pink", "blue", "orange", "red"]
    for row, color in enumerate(colors):
        d.text(172, 66 + row * 34, str(row), 12, "end", "soft", mono=True)
        d.cells(180, 52 + row * 34, [""] * 4, 27, 27, color, 3)
    for place, token in enumerate(ids):
        y = 86 + place * 34
        d.box(42, y, 36, 27, str(token), colors[token], 14, mono=True, corner=4)
        d.arrow((80, y + 13), (152, 66 + token * 34))
        d.text(362, y + 14, str(place), 12, "end", "soft", mono=True)
        d.cells(370, y, [""] * 4, 27, 27, "grey", 3)
        d.cells(566, y, [""] * 4, 27, 27, colors[token], 3)
        d.text(336, y + 14, "+", 18, "middle")
        d.text(528, y + 14, "=", 18, "middle")
    d.caption("Both tables are parameters: training turns them like all others.")
    return d


def tokenizer() -> Drawing:
    """Encode: text, tokens, ids; decode: the reverse."""
    d = Drawing(
        "A tokenizer works both ways: encode turns text into tokens and ids, decode turns ids back"
        " into text",
        260,
    )
    d.text(20, 44, "text", 14, bold=True)
    d.box(120, 24, 420, 40, "the cat sat", "grey", 16, mono=True)
    tokens, ids = ("the", "␣cat", "␣sat"), ("262", "3797", "3332")
    d.text(20, 124, "tokens", 14, bold=True)
    d.text(20, 200, "token ids", 14, bold=True)
    for i, (token, number) in enumerate(zip(tokens, ids)):
        x = 120 + i * 144
        d.arrow((x + 66, 64), (x + 66, 104))
        d.box(x, 104, 132, 40, token, "blue", 16, mono=True)
        d.arrow((x + 66, 144), (x + 66, 180))
        d.box(x, 180, 132, 40, number, "orange", 16, mono=True)
    d.arrow((580, 44), (580, 200), color="blue")
    d.text(592, 122, "encode", 14, color="blue-text", bold=True)
    d.arrow((660, 200), (660, 44), color="green")
    d.text(654, 224, "decode", 14, "middle", "green-text", bold=True)
    d.text(20, 146, "pieces", 12, color="soft")
    d.text(20, 222, "names", 12, color="soft")
    return d


DRAWINGS = (bpe_merges, batch_windows, embedding, tokenizer)
