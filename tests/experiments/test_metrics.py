"""A metric is one number from a run's files."""

from __future__ import annotations

import json

import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.metrics import METRICS, Metric, find_metric

ROWS = [
    {"step": 0, "val_loss": 4.0, "val_bits_per_byte": 5.0, "elapsed": 1.0},
    {"step": 5, "loss": 2.0, "elapsed": 3.0},
    {"step": 10, "val_loss": 1.75, "val_bits_per_byte": 2.0, "elapsed": 6.0},
    {"step": 20, "val_loss": 1.5, "val_bits_per_byte": 1.75, "elapsed": 11.0},
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def test_bits_per_byte_is_that_of_the_last_evaluation(run, tmp_path):
    metric = find_metric("bits_per_byte")
    assert metric.measure(run) == 1.75
    assert metric.measure(tmp_path / "nothing") is None
    assert not metric.higher_is_better


@pytest.mark.parametrize(("target", "seconds"), [(1.8, 6.0), (1.75, 6.0), (1.6, 11.0), (1.0, None)])
def test_seconds_to_a_loss_are_those_of_the_first_evaluation_below_it(run, target, seconds):
    assert find_metric(f"seconds_to_loss:{target}").measure(run) == seconds


def test_skill_metric_is_the_share_of_correct_answers(run, monkeypatch):
    from llm_scratch.evaluation.skill_results import SkillScore

    scores = {
        "count": SkillScore("count", 0.5, 0.1, 10, 0.1),
        "order": SkillScore("order", 0.9, 0.1, 30, 0.1),
    }
    monkeypatch.setattr("llm_scratch.loading.load", lambda path: (None, None))
    monkeypatch.setattr(
        "llm_scratch.evaluation.skills.measure_skills", lambda model, tokenizer: scores
    )
    assert find_metric("skill:count").measure(run) == 0.5
    assert find_metric("skill").measure(run) == pytest.approx((0.5 * 10 + 0.9 * 30) / 40)
    assert find_metric("skill").higher_is_better


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bits_per_bite", "did you mean 'bits_per_byte'"),
        ("bits_per_byte:2", "takes no argument"),
        ("skill:cont", "did you mean 'count'"),
        ("seconds_to_loss", "the loss is missing"),
        ("seconds_to_loss:nan", "the loss is missing"),
    ],
)
def test_wrong_metric_is_an_error(name, message):
    with pytest.raises(UserError, match=message):
        find_metric(name)


def test_custom_metric_is_found(monkeypatch):
    monkeypatch.setitem(
        METRICS, "mine", lambda argument: Metric(f"mine {argument}", lambda run: 1.0)
    )
    assert find_metric("mine:x").name == "mine x"
