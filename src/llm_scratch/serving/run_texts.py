"""Data of a run for the playground, in addition to its model: texts of its kind, its loss curve.

Tests: tests/serving/test_first_screen.py.
"""

from __future__ import annotations

import logging
import math

from llm_scratch.config import RunConfig
from llm_scratch.data.sources import read
from llm_scratch.data.stories import HELD_OUT, generate_story
from llm_scratch.errors import UserError
from llm_scratch.run_directory import RunInfo

log = logging.getLogger(__name__)

N_TEXTS = 64
"""Validation texts for the first screen and to fit the Jacobian lens on."""
MAX_CHARACTERS = 4000
"""Characters of each text; the page shows the beginning, and a lens needs no more."""


def opening_texts(run: RunInfo | None) -> list[str]:
    """Return some validation texts of a run, or none if there is no run or no readable text."""
    if run is None or not run.config.data.source:
        return []
    return validation_texts(run.config, N_TEXTS)


def loss_curve(run: RunInfo | None) -> list[dict[str, float]]:
    """The validation losses of a run by step; JSON cannot express those that are not finite."""
    rows = run.evaluations if run is not None else []
    return [
        {"step": row["step"], "val_loss": row["val_loss"]}
        for row in rows
        if math.isfinite(row["val_loss"])
    ]


def validation_texts(config: RunConfig, n: int) -> list[str]:
    """Up to `n` texts: new stories for a run on stories, else the last documents of its source.

    If the source cannot be read any more, there are none, and the page works without them.
    """
    if config.data.is_stories:
        return [generate_story(HELD_OUT + number).text for number in range(n)]
    try:
        documents = read(config.data.source)
    except UserError as e:
        log.warning("%s; the page begins with a default text", e)
        return []
    texts = [text[-MAX_CHARACTERS:] for text in documents[-n:] if text.strip()]
    if len(texts) == 1:  # one long text: its end is the validation part
        text = documents[-1]
        start = int(len(text) * (1 - config.data.val_fraction))
        texts = [text[at : at + MAX_CHARACTERS] for at in range(start, len(text), MAX_CHARACTERS)][
            :n
        ]
    return texts
