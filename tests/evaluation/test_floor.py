"""The floor of a loss: the entropy of the stories, in bits per byte and per token of the run."""

from __future__ import annotations

import math

import pytest

from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.data.stories import (
    HELD_OUT,
    SKILLS,
    example_probes,
    floor_bits_per_byte,
    generate_story,
)
from llm_scratch.evaluation.floor import loss_floor

STORIES = RunConfig(data=DataConfig(source="stories:500"))
ROW = {"step": 3, "val_loss": 2.0, "val_bits_per_byte": 0.7}


def test_loss_floor_is_the_entropy_of_validation_stories():
    stories = [generate_story(HELD_OUT + i) for i in range(3)]
    assert floor_bits_per_byte(3) == sum(s.bits for s in stories) / sum(
        len(s.text.encode()) for s in stories
    )


def test_nats_per_token_are_scaled_by_the_bytes_of_a_token():
    found = loss_floor(STORIES, [{"step": 0, "loss": 9.0}, ROW])
    assert found is not None
    assert found.bits_per_byte == floor_bits_per_byte()
    assert found.nats_per_token == pytest.approx(found.bits_per_byte * 2.0 / 0.7)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"val_loss": 2.0},
        {**ROW, "val_bits_per_byte": 0},
        {**ROW, "val_loss": math.nan},
        {**ROW, "val_loss": "x"},
    ],
)
def test_loss_floor_is_none_without_an_evaluation(row):
    assert loss_floor(STORIES, [row]) is None
    assert loss_floor(STORIES, [row, ROW]) is not None


def test_loss_floor_is_none_for_other_texts():
    assert loss_floor(RunConfig(data=DataConfig(source="file:stories.txt")), [ROW]) is None


def test_example_probes_have_one_of_each_skill():
    probes = example_probes()
    assert [probe.skill for probe in probes] == list(SKILLS)
    assert max(len(probe.prompt) for probe in probes) < 600, "short enough to be read on a page"
