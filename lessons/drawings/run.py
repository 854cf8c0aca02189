"""Drawings of lesson 6: one document a row, stopping and resuming."""

from __future__ import annotations

from drawings.svg import Drawing


def rows_by_document() -> Drawing:
    """Windows cut a text anywhere; documents begin a row each."""
    d = Drawing(
        "Plain windows mix the end of one story with the beginning of the next;"
        " with one document a row none is mixed",
        292,
    )
    stories = ((9, "blue"), (5, "orange"), (7, "green"), (6, "pink"), (5, "grey"))
    stream = [(color, place == 0) for length, color in stories for place in range(length)]
    d.text(20, 28, "plain windows of 8 tokens", 14, bold=True)
    for number, (color, first) in enumerate(stream):
        row, column = divmod(number, 8)
        d.box(20 + column * 36, 50 + row * 40, 32, 32, "▸" if first else "", color, 14, corner=4)
    d.text(380, 28, "one document a row", 14, bold=True)
    for row, (length, color) in enumerate(stories):
        for column in range(9):
            x, y = 380 + column * 36, 50 + row * 40
            if column < length:
                d.box(x, y, 32, 32, "▸" if column == 0 else "", color, 14, corner=4)
            else:
                d.line((x + 10, y + 16), (x + 22, y + 16), dashed=True)
    d.caption(
        "One color is one story, ▸ its beginning."
        " Broken lines are empty places that the loss ignores."
    )
    return d


def resume() -> Drawing:
    """A run that is stopped and resumed ends like one that is not."""
    d = Drawing(
        "A run that stops at a checkpoint and resumes takes the same steps as one that is"
        " never interrupted",
        244,
    )
    for y, label in ((64, "uninterrupted"), (142, "stopped"), (182, "resumed")):
        d.text(20, y, label, 14, bold=True)
    d.arrow((150, 64), (676, 64), color="blue")
    d.arrow((150, 142), (420, 142), color="orange")
    d.arrow((360, 182), (676, 182), color="green")
    for step in range(9):
        x = 160 + step * 60
        d.text(x, 30, str(step * 10), 12, "middle", "soft", mono=True)
        d.dot(x, 64, "blue")
        if step <= 4:
            d.dot(x, 142, "orange")
        if x >= 360 or step >= 4:
            d.dot(x, 182, "green")
    d.text(20, 30, "step", 12, color="soft")
    d.box(384, 100, 76, 28, "stop", "red", 13)
    d.line((430, 142), (468, 142), dashed=True)
    d.text(478, 142, "lost: it is computed again", 13, color="soft")
    d.text(150, 182, "from the checkpoint of 40", 13, color="soft")
    d.caption(
        "The same seed and the same step give the same stories,"
        " so both runs end with the same bits."
    )
    return d


def two_optimizers() -> Drawing:
    """Which parameters Muon changes, and which AdamW."""
    d = Drawing(
        "Muon changes the matrices inside the blocks; AdamW changes tables, head, norms and biases",
        236,
    )
    d.box(20, 84, 110, 52, "token and|position table", "orange", 13)
    d.arrow((130, 110), (156, 110))
    d.box(156, 40, 396, 140, color="paper", corner=10)
    d.text(172, 58, "each block", 13, bold=True)
    for x, y, label in ((172, 76, "W_query"), (258, 76, "W_key"), (344, 76, "W_value")):
        d.box(x, y, 80, 30, label, "blue", 13, mono=True)
    d.box(430, 76, 100, 30, "out_proj", "blue", 13, mono=True)
    d.box(172, 128, 166, 34, "feed-forward matrices", "blue", 13)
    d.box(350, 128, 180, 34, "norms, biases", "orange", 13)
    d.arrow((552, 110), (580, 110))
    d.box(580, 84, 116, 52, "norm,|head", "orange", 13)
    d.box(196, 192, 18, 14, color="blue", corner=3)
    d.text(222, 199, "Muon", 13, color="blue-text", bold=True)
    d.box(300, 192, 18, 14, color="orange", corner=3)
    d.text(326, 199, "AdamW", 13, color="orange-text", bold=True)
    d.text(392, 199, "tables move only where a token was", 13, color="soft")
    return d


def clipping() -> Drawing:
    """A gradient longer than 1 is shortened, a shorter one stays."""
    d = Drawing(
        "Clipping: a gradient longer than 1 is shortened to length 1 in its own direction, a"
        " shorter one stays as it is",
        262,
    )
    for x, title, (dx, dy) in (
        (180, "longer than 1", (168.0, -84.0)),
        (520, "shorter than 1", (50.0, -34.0)),
    ):
        y = 150
        d.text(x, 28, title, 14, "middle", bold=True)
        d.circle(x, y, 80, color="grey")
        d.text(x - 40, y + 44, "length 1", 12, "middle", "soft")
        length = (dx * dx + dy * dy) ** 0.5
        if length > 80:
            d.arrow((x, y), (x + dx, y + dy), color="red", dashed=True)
            d.text(x + dx - 4, y + dy - 14, "gradient", 13, "middle", "red-text")
            dx, dy = dx * 80 / length, dy * 80 / length
        d.arrow((x, y), (x + dx, y + dy), color="blue")
        d.dot(x, y, "blue", 4)
    d.text(196, 172, "clipped", 13, color="blue-text")
    d.text(528, 168, "unchanged", 13, color="blue-text")
    return d


DRAWINGS = (rows_by_document, resume, two_optimizers, clipping)
