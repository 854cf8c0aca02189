"""Log files of a run: settings that can be read back, metrics without gaps, and samples."""

import json
import os
from contextlib import contextmanager

import pytest
import torch

from llm_scratch.config import GPTConfig, load_config
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.model.flops import flops_per_token
from llm_scratch.presets import preset
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage import files
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.callbacks import TrainState
from llm_scratch.training.run_logger import (
    NONDETERMINISTIC_FIELDS,
    RunLogger,
    StepTimer,
    environment,
    metrics_until,
)

ENVIRONMENT = {"matrix_rate": 1e9}


@contextmanager
def logging(folder, step=0, warn=print):
    """A run logger between `started` and `closed`, and the state that it sees."""
    logger = RunLogger(ENVIRONMENT, metrics_until(folder, step), warn)
    state = TrainState(config=preset("quickstart"), folder=folder, model=None, steps=9, step=step)
    logger.started(state, resumed=step > 0)
    yield logger, state
    logger.closed(state, None)


def write(folder, steps, start=0):
    with logging(folder, start) as (logger, state):
        for step in steps:
            logger.logged(
                state,
                {
                    "step": step,
                    "tokens": 10 * step,
                    "loss": 5.0 - step,
                    "lr": 0.1,
                    "elapsed": float(step),
                },
            )


def test_run_directory_records_settings_and_environment(tmp_path):
    write(tmp_path, [1])
    assert load_config(tmp_path / "config.yaml") == preset("quickstart")
    assert json.loads((tmp_path / "env.json").read_text()) == ENVIRONMENT
    assert (tmp_path / "samples.md").read_text().startswith("# What the model wrote")


@pytest.mark.parametrize(
    "torn", ["", '{"step": 4, "lo', "\0\0\0\0", "null\n", "[4]\n", '{"loss": 1}\n']
)
def test_resumed_metrics_have_each_step_once(tmp_path, torn):
    write(tmp_path, [1, 2, 3, 4])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(tmp_path, [3, 4, 5], start=2)
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_environment_has_versions_and_the_matmul_rate():
    here = environment(torch.device("cpu"))
    assert here["torch"] == torch.__version__
    assert here["matrix_rate"] > 1e9


def test_new_run_starts_with_empty_logs(tmp_path):
    write(tmp_path, [1, 2])
    write(tmp_path, [1])
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_samples_after_the_checkpoint_are_removed(tmp_path):
    sample = "\n## Step {0}, {1:,} tokens\n\nOnce. ## Step 9, as they say.\n"
    text = "# What the model wrote as it learned\n" + "".join(
        sample.format(step, 1000 * step) for step in (2, 4, 10)
    )
    atomic_write(tmp_path / "samples.md", text)
    write(tmp_path, [5], start=4)
    assert (tmp_path / "samples.md").read_text() == text[: text.index("\n## Step 10")]


def test_sample_is_appended_with_its_step(tmp_path):
    with logging(tmp_path) as (logger, state):
        state.step, state.tokens = 3, 4096
        logger.sampled(state, " Once upon a time. ")
    assert (
        (tmp_path / "samples.md")
        .read_text()
        .endswith("\n## Step 3, 4,096 tokens\n\nOnce upon a time.\n")
    )


def test_rollback_removes_later_rows(tmp_path):
    with logging(tmp_path) as (logger, state):
        for step in (1, 2, 3):
            logger.logged(state, {"step": step})
        state.step = 1
        logger.rolled_back(state)
        logger.logged(state, {"step": 2, "rollbacks": 1})
    assert list(iter_metrics(tmp_path / "metrics.jsonl")) == [
        {"step": 1},
        {"step": 2, "rollbacks": 1},
    ]


def test_unwritten_rows_cause_a_warning_and_block_the_checkpoint(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    warnings = []
    with logging(tmp_path, warn=warnings.append) as (logger, state):
        with monkeypatch.context() as patch:
            patch.setattr(files.filesystem, "append", refuse)
            logger.logged(state, {"step": 1})
            logger.logged(state, {"step": 2})
            assert [message.partition(": ")[0] for message in warnings] == [
                f"cannot write {tmp_path / 'metrics.jsonl'}"
            ]
            with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left"):
                logger.flush()
        logger.flush()
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.skipif(os.name == "nt", reason="replaces git by a shell script")
def test_environment_tolerates_git_errors_in_another_encoding(tmp_path, monkeypatch):
    """Simulate a folder of another user whose name has an umlaut in Latin-1."""
    (tmp_path / "git").write_bytes(b"#!/bin/sh\nprintf 'fatal: j\\374rgen' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("llm_scratch.training.run_logger.matmul_flops", lambda *_: 1e9)
    assert environment(torch.device("cpu"))["commit"] is None


@pytest.fixture
def model():
    return build(GPTConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2))


def test_timing_of_a_step_has_speed_mfu_and_memory(model):
    row = StepTimer(torch.device("cpu"), 1e9).fields(model, tokens=500, seconds=0.25)
    assert row["tokens_per_second"] == 2000
    assert row["mfu"] == pytest.approx(2000 * flops_per_token(model.cfg) / 1e9)
    assert row["peak_memory_bytes"] > 50 * 2**20
    assert {*row, "elapsed"} == set(NONDETERMINISTIC_FIELDS)


def test_mfu_is_left_out_without_a_measured_rate(model):
    assert "mfu" not in StepTimer(torch.device("cpu")).fields(model, tokens=500, seconds=0.25)


def test_elapsed_time_continues_on_resume():
    rows = [{"step": 0}, {"step": 1, "elapsed": 1000.0}, {"step": 2, "elapsed": 2000.0}]
    assert 2000.0 <= StepTimer(torch.device("cpu"), rows=rows).elapsed() < 3000.0
