"""`train(progress=True)` prints one line, updated in place on a terminal and in a notebook."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train
from llm_scratch.training.progress_line import NotebookLine, ProgressLine, TerminalLine, open_line

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
STEPS = 6
CONFIG = RunConfig(
    GPTConfig(vocab_size=20, context_length=8, emb_dim=12, n_heads=3, n_layers=1),
    DataConfig(source="stories", tokenizer="chars"),
    TrainConfig(
        steps=STEPS,
        batch_size=4,
        warmup_steps=2,
        eval_every=3,
        eval_batches=1,
        save_every=9,
        sample_every=0,
    ),
)


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:480], ids[480:], len(ids) - 480)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: None)


class Recorder:
    """A line that records its texts."""

    def __init__(self):
        self.shown, self.closed = [], 0

    def show(self, text):
        self.shown.append(text)

    def close(self):
        self.closed += 1


def test_progress_line_shows_step_loss_and_time(tmp_path, corpus):
    line = Recorder()
    train(CONFIG, tmp_path, corpus=corpus, callbacks=[ProgressLine(line, every=0.0)])
    assert line.shown[0] == f"step 0/{STEPS} (0%)"
    step = next(text for text in line.shown if text.startswith(f"step 4/{STEPS} (67%) · loss "))
    assert "validation" in step
    assert "tokens/s" in step
    assert step.endswith(" left")
    assert line.shown[-1].startswith(f"step {STEPS}/{STEPS} (100%)")
    assert line.shown[-1].endswith("in total")
    assert line.closed >= 1


def test_progress_line_limits_its_updates(tmp_path, corpus):
    line = Recorder()
    train(CONFIG, tmp_path, corpus=corpus, callbacks=[ProgressLine(line, every=1e9)])
    n_evaluations = 3
    assert len(line.shown) == 1 + n_evaluations + 1, "the start, each evaluation, and the end"


def test_run_without_progress_prints_nothing_and_has_equal_weights(tmp_path, corpus, capsys):
    quiet = train(CONFIG, tmp_path / "quiet", corpus=corpus)
    assert capsys.readouterr() == ("", "")
    shown = train(CONFIG, tmp_path / "shown", corpus=corpus, progress=True)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"step {STEPS}/{STEPS} (100%)" in captured.out
    assert captured.out.count("\n") == 1, "one line, updated in place"
    for name, weight in quiet.model.state_dict().items():
        assert torch.equal(weight, shown.model.state_dict()[name]), name


def test_progress_line_works_beside_other_callbacks(tmp_path, corpus, capsys):
    class Steps(Callback):
        seen: ClassVar = []

        def step(self, state, row):
            self.seen.append(state.step)

    run = train(CONFIG, tmp_path / "run", corpus=corpus, callbacks=[Steps()], progress=True)
    assert Steps.seen == list(range(1, run.steps + 1))
    assert f"step {run.steps}/{run.steps}" in capsys.readouterr().out


def test_shorter_progress_line_covers_a_longer_one():
    stream = io.StringIO()
    line = TerminalLine(stream)
    line.show("a long line")
    line.show("short")
    line.close()
    line.close()
    assert stream.getvalue() == "\ra long line\rshort      \n"


def test_progress_line_prints_messages_below(capsys):
    line = Recorder()
    ProgressLine(line).warn("careful")
    assert capsys.readouterr().out == "warning: careful\n"
    assert line.closed == 1


def fake_ipython(monkeypatch, shell):
    """A process in which IPython is loaded; returns what was displayed."""
    displayed = []

    class Handle:
        def update(self, content, raw):
            displayed.append(("update", content["text/plain"]))

    def display(content, raw, display_id):
        displayed.append(("display", content["text/plain"]))
        return Handle()

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return displayed


def test_progress_line_updates_one_output_in_a_notebook(monkeypatch, tmp_path, corpus, capsys):
    displayed = fake_ipython(monkeypatch, SimpleNamespace(kernel=object()))
    assert isinstance(open_line(), NotebookLine)
    train(CONFIG, tmp_path, corpus=corpus, progress=True)
    assert [kind for kind, _ in displayed].count("display") == 1
    assert displayed[0][0] == "display"
    assert displayed[-1][1].startswith(f"step {STEPS}/{STEPS}")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "shell", [None, SimpleNamespace()], ids=["a script", "IPython in a terminal"]
)
def test_progress_line_uses_standard_output_outside_notebooks(monkeypatch, shell):
    fake_ipython(monkeypatch, shell)
    assert isinstance(open_line(), TerminalLine)


def test_ipython_is_not_imported_for_a_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(open_line(), TerminalLine)
    assert "IPython" not in sys.modules
