"""The budget is kept, a game can be stopped, and the score compares with the fitted law."""

from __future__ import annotations

import json

import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.game import Game, Guess, Outcome
from llm_scratch.experiments.grid import n_parameters
from llm_scratch.experiments.scaling import ScalingLaw

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

LAW = ScalingLaw(0.3, 40.0, 60.0, 0.5, 0.6)


@pytest.fixture
def trained(monkeypatch):
    """Stub of training: the loss follows `LAW`. Returns the widths in order."""
    widths = []

    def train(config, folder, **more):
        widths.append(config.model.emb_dim)
        tokens = config.train.steps * config.train.batch_size * config.model.context_length
        loss = float(LAW.loss(n_parameters(config), tokens))
        folder.mkdir(parents=True)
        row = {"step": config.train.steps, "tokens": tokens, "val_bits_per_byte": loss}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    return widths


@pytest.fixture
def game(base, tmp_path, trained):
    return Game(tmp_path / "game", str(base))


def test_runs_cost_flops_and_cannot_cost_more_than_is_left(game):
    assert game.left() == game.budget == game.target_flops / 2
    run = game.buy(8, 320)
    assert (run.width, run.positions) == (8, 320)
    assert game.left() == pytest.approx(game.budget - run.flops)
    with pytest.raises(UserError, match="width 16, 3,200 tokens: costs .* choose a smaller run"):
        game.buy(16, 3200)
    assert game.buy(8, 320) == run
    assert len(game.runs()) == 1


def test_stopped_game_continues_in_its_folder(game, base, trained, tmp_path):
    run = game.buy(8, 320)
    again = Game(tmp_path / "game", str(base))
    assert again.runs() == [run]
    assert again.left() == game.left()
    again.predict(Guess(1.0))
    assert Game(tmp_path / "game", str(base)).outcome() == again.outcome()
    assert trained == [8, 16]


def test_law_of_the_runs_is_the_reference_once_they_determine_it(game):
    game.buy(8, 320)
    for width, tokens in ((4, 64), (4, 128), (8, 64), (8, 128), (12, 64)):
        game.buy(width, tokens)
    game.predict(Guess(9.0))
    outcome = game.outcome()
    assert outcome.is_law
    assert outcome.reference == pytest.approx(outcome.measured, rel=0.02)
    assert outcome.score < 10


def test_lowest_loss_is_the_reference_of_few_runs_and_a_width_is_tried(game, trained):
    losses = [game.buy(8, tokens).loss for tokens in (64, 320)]
    game.predict(Guess(losses[1] - 0.1, best_width=32))
    outcome = game.outcome()
    assert (outcome.is_law, outcome.reference) == (False, losses[1])
    assert trained == [8, 8, 16, 32]
    assert outcome.best_width_loss is not None


def test_guess_ends_the_game_and_needs_a_run(game):
    with pytest.raises(UserError, match="no finished run yet"):
        game.predict(Guess(1.0))
    assert game.outcome() is None
    game.buy(8, 64)
    with pytest.raises(UserError, match="not a multiple"):
        game.predict(Guess(1.0, best_width=7))
    game.predict(Guess(1.0))
    game.predict(Guess(1.0))
    with pytest.raises(UserError, match="the game is over"):
        game.predict(Guess(2.0))
    with pytest.raises(UserError, match="the game is over"):
        game.buy(8, 128)


def test_game_folder_of_another_base_is_an_error(game, base, tmp_path):
    path = base / "config.yaml"
    path.write_text(path.read_text().replace("n_layers: 1", "n_layers: 2"))
    with pytest.raises(UserError, match="holds a run with other settings"):
        Game(tmp_path / "game", str(base))


@pytest.mark.parametrize(
    ("guess", "reference", "score"),
    [(1.0, 1.2, 100), (1.1, 1.1, 50), (1.3, 1.1, 25), (1.0, 1.0, 50)],
)
def test_game_score_is_the_ratio_of_errors(guess, reference, score):
    assert Outcome(Guess(guess), 1.0, reference, True, None).score == score
