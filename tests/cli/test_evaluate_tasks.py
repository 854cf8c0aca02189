"""`evaluate --tasks` measures files of questions, and names what is missing for others."""

import importlib.util
import json

import pytest

from llm_scratch.evaluation.tasks import run_task
from llm_scratch.loading import load

QUESTIONS = [
    {"context": "the hen sat on the red", "choices": [" mat", " fox"], "answer": i % 2}
    for i in range(4)
]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "hens.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    return path


def test_task_scores_equal_those_of_the_library(llm, trained, questions, tmp_path):
    want = run_task(*load(trained), questions)
    (tmp_path / "text.jsonl").write_text('{"text": "the red hen"}\n')
    result = llm("evaluate", trained, "--tasks", "hens.jsonl, text.jsonl", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    assert f"{want[1].value:.4f} ± {want[1].stderr:.4f}" in result.out
    assert "bits per byte" in result.out
    found = json.loads(
        llm("evaluate", trained, "--tasks", "hens.jsonl", "--json", "--device", "cpu").out
    )
    rows = [(row["task"], row["metric"], row["value"]) for row in found["tasks"]]
    assert rows == [("hens", score.metric, pytest.approx(score.value)) for score in want]
    plain = json.loads(llm("evaluate", trained, "--json", "--device", "cpu").out)
    assert plain.keys() == found.keys()
    assert plain["tasks"] is None


def test_evaluate_tasks_rejects_conflicting_arguments(llm, trained, questions, monkeypatch):
    result = llm("evaluate", trained, "--tasks", "hens.jsonl", "--skills")
    assert (result.code, result.out) == (2, "")
    assert "--tasks measures no text" in result.err
    assert "names no task" in llm("evaluate", trained, "--tasks", " ,").err
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "lm_eval" else find(name, *rest),
    )
    result = llm("evaluate", trained, "--tasks", "hellaswag")
    assert result.code == 2
    assert "`pip install lm_eval`" in result.err
