"""Every combination is a run, a stop loses none, and errors are found before the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.experiments.experiment import Arm, Budget
from llm_scratch.experiments.results import read_results
from llm_scratch.experiments.transfer_runner import (
    TransferExperiment,
    read_transfer,
    run_transfer,
)
from llm_scratch.model import ARCHITECTURES
from llm_scratch.training.optim import OPTIMIZERS

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

MUP = Path(__file__).parents[2] / "experiments" / "arms" / "mup.py"


@pytest.fixture
def transfer(base):
    """One arm, two widths, three rates, two seeds."""
    return TransferExperiment(
        "transfer",
        str(base),
        (8, 16),
        (0.001, 0.01, 0.1),
        (Arm("plain"),),
        (1, 2),
        Budget("tokens", 320),
    )


@pytest.fixture
def _tables():
    """Restore the registry tables afterwards."""
    before = [(table, dict(table)) for table in (ARCHITECTURES, OPTIMIZERS)]
    yield
    for table, old in before:
        table.clear()
        table.update(old)


def test_every_combination_is_trained_once_seed_by_seed(transfer, tmp_path, fake_training):
    outcome = run_transfer(transfer, tmp_path / "out")
    assert fake_training == [
        (rate, seed) for seed in (1, 2) for _ in (8, 16) for rate in (0.001, 0.01, 0.1)
    ]
    assert outcome.losses["plain"].shape == (2, 3, 2)
    for i, run in enumerate(("plain 8 0.001", "plain 8 0.01", "plain 8 0.1", "plain 16 0.001")):
        assert outcome.results[i].arm == run
        assert outcome.losses["plain"][i // 3, i % 3, 0] == outcome.results[i].value
    assert outcome.results[0].steps == 10


def test_stopped_transfer_keeps_its_runs_and_continues_with_more_seeds(
    transfer, tmp_path, fake_training, monkeypatch
):
    from llm_scratch.experiments import runner

    fake = runner.train

    def train(config, folder, **more):
        if len(fake_training) == 5:
            monkeypatch.setattr(runner, "train", fake)
            raise KeyboardInterrupt
        fake(config, folder)

    monkeypatch.setattr(runner, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run_transfer(transfer, tmp_path / "out")
    assert len(read_results(tmp_path / "out")) == 5
    outcome = run_transfer(transfer, tmp_path / "out")
    assert len(fake_training) == 12
    more = run_transfer(replace(transfer, seeds=(1, 2, 3)), tmp_path / "out")
    assert len(fake_training) == 18
    assert more.results[:12] == outcome.results


def test_diverged_run_counts_and_failed_run_is_an_error(
    transfer, tmp_path, fake_training, monkeypatch
):
    from llm_scratch.experiments import runner

    fake = runner.train

    def train(config, folder, **more):
        if config.train.lr == 0.1:
            raise UserError("training diverged", DIVERGED)
        if config.train.seed == 2:
            raise ValueError("broken")
        fake(config, folder)

    monkeypatch.setattr(runner, "train", train)
    outcome = run_transfer(replace(transfer, seeds=(1, 3)), tmp_path / "out")
    assert [best.edge for best in outcome.transfers["plain"].best] == ["too few", "too few"]
    with pytest.raises(UserError, match=r"run plain 8 0\.001: ValueError: broken; every run"):
        run_transfer(transfer, tmp_path / "out")


@pytest.mark.usefixtures("_tables")
def test_arm_of_a_file_has_its_architecture_at_every_width(transfer, tmp_path, fake_training):
    settings = ("model.init=gpt2",)
    arms = (Arm("standard", settings), Arm("muP", settings, str(MUP)))
    outcome = run_transfer(replace(transfer, arms=arms), tmp_path / "out")
    assert list(outcome.transfers) == ["standard", "muP"]
    written = (tmp_path / "out" / "arms" / "muP_16_0.1.yaml").read_text()
    assert "mup-gpt" in written
    assert "mup-adamw" in written
    assert (tmp_path / "out" / "arms" / "mup.py").read_text() == MUP.read_text()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr=0.1", "the experiment sets the rates; leave it out$"),
        ("model.emb_dim=32", "the experiment sets the widths"),
        ("train.steps=4", "the budget sets the steps"),
        ("train.seed=4", "the experiment sets the seeds"),
        ("model.n_heads=3", "not a multiple"),
    ],
)
def test_invalid_setting_of_a_transfer_is_found_before_the_first_run(
    transfer, tmp_path, fake_training, setting, message
):
    arms = (*transfer.arms, Arm("x", (setting,)))
    with pytest.raises(UserError, match=message):
        run_transfer(replace(transfer, arms=arms), tmp_path / "out")
    with pytest.raises(UserError, match="two are equal to six digits"):
        run_transfer(replace(transfer, rates=(0.001, 0.0010000001, 0.1)), tmp_path / "out")
    assert fake_training == []


GOOD = "base: quickstart\nwidths: [64, 32]\nrates: [1e-2, 0.001, 0.1]\narms: {a: []}\n"


def test_transfer_file_is_read(tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text(GOOD)
    experiment = read_transfer(path)
    assert (experiment.name, experiment.widths) == ("rates", (32, 64))
    assert experiment.rates == (0.001, 0.01, 0.1)
    assert (experiment.seeds, experiment.budget) == ((1, 2, 3), Budget("tokens"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: quickstart\n", "widths is missing"),
        (GOOD + "width: [3]\n", "did you mean 'widths'"),
        (GOOD.replace("[64, 32]", "[64]"), "widths: .* is not a list of at least 2"),
        (GOOD.replace("[64, 32]", "[64, 32.5]"), "not whole numbers"),
        (GOOD.replace("1e-2", "0.1"), "has a number twice"),
        (GOOD.replace("1e-2", "fast"), "rates: 'fast' is out of range"),
        (GOOD.replace("0.1]", "]"), "rates: .* is not a list of at least 3"),
        (GOOD.replace("{a: []}", "3"), "not a mapping"),
        (GOOD + "budget: {seconds: 3}\n", "budget: seconds is not supported here"),
        (GOOD + "seeds: 0\n", r"seeds: \[\] are invalid; give 1 to 1,000 different seeds"),
        (GOOD + "seeds: [1, 1]\n", r"seeds: \[1, 1\] are invalid"),
    ],
)
def test_invalid_transfer_file_is_an_error(tmp_path, text, message):
    (tmp_path / "rates.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_transfer(tmp_path / "rates.yaml")
