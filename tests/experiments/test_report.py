"""The report has the verdicts first, shows every run, and equals its Markdown.

It needs no external files.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.experiments.contents import collect
from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.metrics import METRICS, Metric
from llm_scratch.experiments.report import write_report
from llm_scratch.experiments.runner import run_experiment

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture
def folder(experiment, tmp_path, fake_training):
    """A finished experiment."""
    run_experiment(experiment, tmp_path / "out")
    return tmp_path / "out"


def test_report_of_an_arm_from_a_file_is_written_by_a_new_process(
    experiment, tmp_path, fake_training
):
    path = tmp_path / "model.py"
    path.write_text(
        "from llm_scratch.architectures import ARCHITECTURES, Architecture, GPTConfig\n"
        "from llm_scratch.model.gpt import GPTModel\n"
        "ARCHITECTURES['of-a-file'] = Architecture(GPTConfig, GPTModel)\n"
    )
    arms = (experiment.arms[0], Arm("own", file=str(path)))
    try:
        run_experiment(replace(experiment, arms=arms, seeds=(1, 2)), tmp_path / "out")
        del ARCHITECTURES["of-a-file"]  # as in a process that ran nothing
        report = collect(tmp_path / "out")
        assert report.differing["model.architecture"] == ["gpt", "of-a-file"]
    finally:
        ARCHITECTURES.pop("of-a-file", None)


class Tags(HTMLParser):
    """Checks that tags are closed, and collects the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.words = [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def test_experiment_report_begins_with_the_verdict(folder):
    page, markdown = (path.read_text(encoding="utf-8") for path in write_report(folder))
    (comparison,) = collect(folder).comparisons
    text = " ".join(Tags(page).words)
    assert comparison.sentence in markdown
    assert text.index(comparison.sentence) < text.index("Every run") < text.index("Reproduce")
    assert markdown.index(comparison.sentence) < markdown.index("## Arms")
    for shown in (
        "slow",
        "fast",
        "train.lr",
        "0.001",
        "Alpha spending",
        "torch",
        "llm-scratch experiment run",
    ):
        assert shown in text


def test_experiment_report_is_self_contained(folder):
    page = write_report(folder)[0].read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|src=|url\((?!#)", page)
    assert len(re.findall("<circle", page)) == 2 * (
        6 + 3 + 1
    )  # dots, rings and a mean, wide and narrow


def test_finished_runs_are_measured_by_another_metric(folder, monkeypatch):
    score = {("slow", 1): 0.5, ("slow", 2): 0.6, ("fast", 1): 0.8, ("fast", 2): 0.7}

    def measure(run):
        return score.get((run.name, int(run.parent.name.removeprefix("seed-"))))

    metric = Metric("score", measure, smallest_effect=0.1, higher_is_better=True)
    monkeypatch.setitem(METRICS, "score", lambda argument: metric)
    report = collect(folder, "score")
    slow, fast = report.arms
    assert (slow.values, fast.values) == ({1: 0.5, 2: 0.6}, {1: 0.8, 2: 0.7})
    assert (slow.n_failed, fast.n_failed) == (1, 1)  # of seed 3 the metric is unknown
    assert report.comparisons[0].unit == "score"
    assert collect(folder).arms[1].mean != fast.mean


def test_costs_are_means_of_finished_runs(folder):
    fast = collect(folder).arms[1]
    assert (fast.n_runs, fast.n_failed, fast.tokens, fast.seconds) == (3, 0, 128, 2.0)
    assert fast.mean == pytest.approx(1.01 + 1 / 5, abs=0.005)


def test_unfinished_runs_are_listed_and_drawn_without_a_verdict(
    experiment, tmp_path, fake_training, monkeypatch
):
    from llm_scratch.experiments import runner

    fake = runner.train

    def train(config, folder, **more):
        if config.train.lr == 0.01 and config.train.seed == 2:
            raise UserError("training diverged at step 3", DIVERGED)
        fake(config, folder)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    run_experiment(experiment, tmp_path / "out")
    page, markdown = (path.read_text(encoding="utf-8") for path in write_report(tmp_path / "out"))
    for text in (page, markdown):
        assert "fast, seed 2: training diverged at step 3" in text
        assert "No verdict: 1 run of fast did not finish" in text
    assert len(re.findall("<circle", page)) == 2 * (5 + 2 + 1)


def test_report_escapes_names(experiment, tmp_path, fake_training):
    from dataclasses import replace

    from llm_scratch.experiments.experiment import Arm

    named = replace(experiment, arms=(Arm("<b>|x", ("train.lr=0.001",)), *experiment.arms[1:]))
    run_experiment(named, tmp_path / "out")
    page, markdown = (path.read_text(encoding="utf-8") for path in write_report(tmp_path / "out"))
    assert "<b>|x" not in page
    assert "<b>\\|x" in markdown


def test_report_of_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        write_report(tmp_path)
