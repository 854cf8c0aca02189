"""`experiment game` prints the rules, trains the bought runs, and reveals the truth."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture
def game(llm, trained, tmp_path, monkeypatch):
    """Make a move of a game with stubbed training: the loss is 1 + 1 / width."""

    def train(config, folder, **more):
        folder.mkdir(parents=True)
        row = {"step": 4, "tokens": 99, "val_bits_per_byte": 1 + 1 / config.model.emb_dim}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    monkeypatch.setattr("gc.collect", lambda: 0)
    return lambda *words: llm(
        "experiment", "game", "--base", trained, "--out", tmp_path / "game", *words
    )


def test_game_is_played_from_the_rules_to_the_score(game):
    start = game()
    assert start.code == 0, start.err
    assert "Predict the loss of width" in start.out
    bought = game("--width", 8, "--tokens", 64)
    assert "1.1250" in bought.out
    end = game("--predict", 1.05, "--best-width", 8)
    assert end.code == 0, end.err
    assert "You predicted 1.0500" in end.out
    assert "Score: " in end.out
    assert "not lower than width" in end.out
    result = json.loads(game("--json").out)["result"]
    assert (result["predicted"], result["best_width"]) == (1.05, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--width", 8], "a run needs --width and --tokens"),
        (["--width", 8, "--tokens", 64, "--predict", 1], "are two moves"),
        (["--best-width", 8], "has no effect without --predict"),
        (["--predict", 0], "--predict: 0.0 is out of range"),
        (["--predict", 1], "no finished run yet"),
    ],
)
def test_mistaken_move_is_one_line(game, words, message):
    result = game(*words)
    assert result.code == 2
    assert message in result.err
