"""Drawings of lesson 6: one document a row, stopping and resuming."""

from __future__ import annotations

from drawings.svg import Drawing


def rows_by_document() -> Drawing:
    """Windows cut a text anywhere; documents begin a row each."""
    d = Drawing(
        (
            "Plain windows mix the end of one story with the beginning of the next;"
            " with one document a row none is mixed"
        ),
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
        (
            "A run that stops at a checkpoint and resumes takes the same steps as one that is"
            " never interrupted"
        ),
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


DRAWINGS = (rows_by_document, resume)
