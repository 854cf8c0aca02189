"""A command line to call, a small text, and a tiny trained run that tests copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_scratch.cli import main

TINY = """
    --data.tokenizer chars --data.val-fraction 0.2 --model.vocab-size 40 --model.context-length 16
    --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1 --train.steps 4 --train.batch-size 2
    --train.eval-every 2 --train.eval-batches 2 --train.save-every 2 --train.sample-every 4
    --train.warmup-steps 1 --train.log-every 1 --train.prompt the"""


@dataclass
class Result:
    """The result of a command: exit code and output."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def loss_plots() -> None:
    """For tests that need the loss plots of the runs that they train."""


@pytest.fixture
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip long samples, loss plots and the timing of memory, which few tests need."""
    if "loss_plots" not in request.fixturenames:
        monkeypatch.setattr("llm_scratch.reports.plot.LossPlot.closed", lambda *args: None)
    monkeypatch.setattr("llm_scratch.training.samples.SAMPLE_TOKENS", 12)
    monkeypatch.setattr("llm_scratch.planning.plan.read_bandwidth", lambda device: 1e10)


@pytest.fixture
def llm(
    quick: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Call `llm-scratch` with arguments in an empty folder; returns code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 2,695 letters, 16 of them different."""
    path = tmp_path_factory.mktemp("texts") / "hens and foxes.txt"
    path.write_text("the hen sat on the red mat, and the fox ran off.\n" * 55, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny(text_file: Path) -> list[str]:
    """The arguments that train a tiny model on the text in about a second."""
    return ["train", "shakespeare", "--data.source", f"file:{text_file}", *TINY.split()]


@pytest.fixture(scope="session")
def trained_once(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained run, shared by tests; do not change it."""
    folder = tmp_path_factory.mktemp("trained") / "tiny run"
    assert main([*tiny, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the tiny trained run, whose path contains a space."""
    return Path(shutil.copytree(trained_once, tmp_path / "tiny run"))


def files(folder: Path) -> set[str]:
    """Every file and folder under `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
