"""A tiny experiment, and synthetic results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig, dump_config
from llm_scratch.experiments.experiment import Arm, Experiment
from llm_scratch.experiments.results import RunResult

TEXT = "the hen sat on the red mat, and the fox ran off.\n" * 55


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip disk flushes and garbage collection, which take longer than a run."""
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("gc.collect", lambda: 0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The directory of an unstarted run of 4 steps, whose settings are a base."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    config = RunConfig(
        GPTConfig(
            vocab_size=40, context_length=16, emb_dim=16, n_heads=2, n_layers=1, drop_rate=0.0
        ),
        DataConfig(source=f"file:{tmp_path / 'text.txt'}", tokenizer="chars", val_fraction=0.2),
        TrainConfig(
            steps=4,
            batch_size=2,
            lr=0.01,
            eval_every=2,
            eval_batches=2,
            save_every=2,
            sample_every=4,
            log_every=1,
            prompt="the",
        ),
    )
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    return folder


@pytest.fixture
def experiment(base: Path) -> Experiment:
    """Two arms with three seeds."""
    arms = (Arm("slow", ("train.lr=0.001",)), Arm("fast", ("train.lr=0.01",)))
    return Experiment("rates", str(base), arms, (1, 2, 3))


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Replace training: the loss is 1 + lr + noise from the seed.

    Returns (lr, seed) of each run, in order.
    """
    trained: list[tuple[float, int]] = []

    def train(config: RunConfig, folder: Path, **more: object) -> None:
        cfg = config.train
        trained.append((cfg.lr, cfg.seed))
        loss = 1 + cfg.lr + 0.001 * np.random.default_rng(cfg.seed).normal()
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "step": step,
                "tokens": 32 * step,
                "val_bits_per_byte": loss + 1 / (1 + step),
                "val_loss": loss,
                "elapsed": 0.5 * step,
            }
            for step in (0, 2, cfg.steps)
        ]
        (folder / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        (folder / "env.json").write_text('{"torch": "2.9.0", "device": "cpu"}', encoding="utf-8")

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    return trained


@pytest.fixture
def result() -> Callable[..., RunResult]:
    """A result of a run; without a value it diverged."""

    def make(arm: str, seed: int, value: float | None) -> RunResult:
        state, reason = ("finished", "") if value is not None else ("diverged", "training diverged")
        return RunResult(arm, seed, state, value, reason, 4, 128, 1e6, 0.5)  # type: ignore[arg-type]

    return make
