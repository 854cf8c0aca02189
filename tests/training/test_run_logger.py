"""Log files of a run: settings that can be read back, metrics without gaps, samples, and the loss plot."""

import json
import os
from types import SimpleNamespace

import pytest
import torch

from llm_scratch.config import GPTConfig, load_config
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.model.flops import flops_per_token
from llm_scratch.presets import preset
from llm_scratch.storage import files
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers import CharTokenizer
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS, Callback, RunLogger, environment, iter_metrics


def write(folder, steps, start=0):
    with RunLogger(preset("quickstart"), folder, start) as records:
        for step in steps:
            records.log_metrics({"step": step, "tokens": 10 * step, "loss": 5.0 - step, "lr": 0.1})


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch, request):
    if "plot" not in request.node.name:
        monkeypatch.setattr("llm_scratch.training.run_logger.plot_runs", lambda *args: None)


def test_run_directory_records_settings_and_environment(tmp_path):
    write(tmp_path, [1])
    assert load_config(tmp_path / "config.yaml") == preset("quickstart")
    said = json.loads((tmp_path / "env.json").read_text())
    assert said == environment(torch.device("cpu"))
    assert said["torch"] == torch.__version__
    assert said["matrix_rate"] > 1e9
    assert (tmp_path / "samples.md").read_text().startswith("# What the model wrote")


@pytest.mark.parametrize("torn", ["", '{"step": 4, "lo', "\0\0\0\0", "null\n", "[4]\n", '{"loss": 1}\n'])
def test_resumed_metrics_have_each_step_once(tmp_path, torn):
    write(tmp_path, [1, 2, 3, 4])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(tmp_path, [3, 4, 5], start=2)
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_metrics_row_has_timing(tmp_path):
    cfg = GPTConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2)
    with RunLogger(preset("quickstart"), tmp_path, 0) as records:
        took = records.timing_fields(model := build(cfg), tokens=500, seconds=0.25)
        records.log_metrics({"step": 1} | took)
    assert took["tokens_per_second"] == 2000
    rate = json.loads((tmp_path / "env.json").read_text())["matrix_rate"]
    assert took["mfu"] == pytest.approx(2000 * flops_per_token(model.cfg) / rate)
    assert took["peak_memory_bytes"] > 50 * 2**20
    (row,) = iter_metrics(tmp_path / "metrics.jsonl")
    assert row.keys() == {"step", *NONDETERMINISTIC_FIELDS}


def test_elapsed_time_continues_on_resume(tmp_path):
    write(tmp_path, [1, 2])
    old = [row | {"elapsed": 1000.0 * row["step"]} for row in iter_metrics(tmp_path / "metrics.jsonl")]
    atomic_write(tmp_path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in old))
    write(tmp_path, [2, 3], start=1)
    assert [1000 * round(row["elapsed"] / 1000) for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1000, 1000, 1000]


def test_new_run_starts_with_empty_logs(tmp_path):
    write(tmp_path, [1, 2])
    write(tmp_path, [1])
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_samples_after_the_checkpoint_are_removed(tmp_path):
    sample = "\n## Step {0}, {1:,} tokens\n\nOnce. ## Step 9, as they say.\n"
    text = "# What the model wrote as it learned\n" + "".join(sample.format(step, 1000 * step) for step in (2, 4, 10))
    atomic_write(tmp_path / "samples.md", text)
    write(tmp_path, [5], start=4)
    assert (tmp_path / "samples.md").read_text() == text[: text.index("\n## Step 10")]


def test_iter_metrics_is_empty_without_a_file(tmp_path):
    assert list(iter_metrics(tmp_path / "metrics.jsonl")) == []


def test_a_sample_of_a_compiled_model_compiles_nothing(tmp_path):
    """With its cache the model would be compiled again for one length after another: minutes on a GPU."""
    config, compiled = preset("quickstart"), []
    torch.compiler.reset()  # a function that others have compiled often is compiled no more

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    tokenizer = CharTokenizer.train([config.train.prompt])
    model = build(GPTConfig(vocab_size=tokenizer.n_vocab, context_length=16, emb_dim=12, n_heads=2, n_layers=1))
    torch._dynamo.reset()  # it compiles one function a limited number of times
    model.hidden = torch.compile(model.hidden, backend=backend)
    with RunLogger(config, tmp_path, 0) as records:
        records.log_sample(
            SimpleNamespace(model=model, tokenizer=tokenizer, config=config, step=1, tokens=1, prompt=config.train.prompt), Callback()
        )
    assert "## Step 1" in (tmp_path / "samples.md").read_text()
    assert not compiled
    model.hidden(torch.zeros(1, 4, dtype=torch.long))
    assert compiled, "it is compiled where rows are whole"


def test_run_logger_writes_the_loss_plot(tmp_path):
    write(tmp_path, [1, 2, 3])
    assert (tmp_path / "loss-plot.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "loss-plot.png").read_bytes().startswith(b"\x89PNG")


def test_unwritten_rows_cause_a_warning_and_block_the_checkpoint(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    said = []
    with RunLogger(preset("quickstart"), tmp_path, 0, warn=said.append) as records:
        with monkeypatch.context() as patch:
            patch.setattr(files.FileSystem, "append", refuse)
            records.log_metrics({"step": 1})
            records.log_metrics({"step": 2})
            assert [message.partition(": ")[0] for message in said] == [f"cannot write {tmp_path / 'metrics.jsonl'}"]
            with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left"):
                records.flush()
        records.flush()
    assert [row["step"] for row in iter_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_quiet_callback_prints_only_warnings(capsys):
    watcher = Callback()
    for call in (lambda: watcher.started(None, False), lambda: watcher.step(None, {}), lambda: watcher.sampled(None, "x")):
        call()
    watcher.evaluated(None, {})
    watcher.finished(None)
    assert capsys.readouterr().out == ""
    watcher.warn("careful")
    assert capsys.readouterr().out == "warning: careful\n"


@pytest.mark.skipif(os.name == "nt", reason="a script that stands in for git")
def test_environment_tolerates_git_errors_in_another_encoding(tmp_path, monkeypatch):
    """As of a folder that belongs to another user and whose name has an umlaut in Latin-1."""
    (tmp_path / "git").write_bytes(b"#!/bin/sh\nprintf 'fatal: j\\374rgen' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("llm_scratch.training.run_logger.matmul_flops", lambda *_: 1e9)
    assert environment(torch.device("cpu"))["commit"] is None
