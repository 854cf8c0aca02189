"""`experiment transfer` prints the best rate of each width, and its trend with the width."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture
def falling(monkeypatch):
    """Stub of training: the best rate is 0.32 / width."""

    def train(config, folder, **more):
        distance = config.train.lr * config.model.emb_dim / 0.32
        loss = 1 + (distance - 1) ** 2 + 0.001 * config.train.seed
        folder.mkdir(parents=True)
        row = {"step": 4, "tokens": 99, "val_bits_per_byte": loss, "elapsed": 1.0}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    monkeypatch.setattr("gc.collect", lambda: 0)


def test_best_rates_are_printed_and_the_report_is_written(llm, trained, falling, tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text(
        f"base: {trained}\nwidths: [16, 32]\nrates: [0.005, 0.01, 0.02, 0.04]\n"
        "arms: {plain: []}\nseeds: 2\nbudget: {tokens: 320}\n"
    )
    result = llm("experiment", "transfer", path, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "plain: the best rate falls by ×0.5" in result.out
    assert (tmp_path / "out" / "report.html").is_file()
    again = llm("experiment", "transfer", path, "--out", tmp_path / "out", "--json")
    (arm,) = json.loads(again.out)["arms"]
    assert arm["verdict"] == "falls"
    assert [each["width"] for each in arm["widths"]] == [16, 32]


def test_transfer_file_error_is_one_line(llm, tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text("base: quickstart\n")
    result = llm("experiment", "transfer", path)
    assert result.code == 2
    assert "widths is missing" in result.err
