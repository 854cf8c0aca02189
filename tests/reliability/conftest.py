"""Fixtures: a two-second run that uses every feature, and commands that can be killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from effort import wait_until

from llm_scratch.config import (
    DataConfig,
    GPTConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
    resume_relevant,
)
from llm_scratch.data.corpus import Corpus
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.storage.checkpoint_folders import resolve_pointer
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS

SAVE_EVERY, STEPS = 20, 200
TRAIN = f"""
    train shakespeare --data.tokenizer chars --data.val-fraction 0.2 --model.vocab-size 40
    --model.context-length 16 --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1
    --model.drop-rate 0.1 --train.steps {STEPS} --train.batch-size 4 --train.micro-batches 2
    --train.eval-every 40 --train.eval-batches 2 --train.save-every {SAVE_EVERY}
    --train.sample-every 100 --train.warmup-steps 20 --train.log-every 1 --train.prompt the
    --device cpu"""


class Process:
    """A running command."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter, self.pid = starter, pid
        self._cpu_seconds = 0.0

    def send(self, number: int) -> None:
        """Send a signal; does nothing if the command has ended."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Whether the command has ended; `wait` has yet to be called."""
        return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE

    def cpu_seconds(self) -> float:
        """The processor time that the command has used so far, in steps of about 0.01 s.

        After its end it is the last that was read, where the system forgets it (macOS).
        """
        with suppress(psutil.ZombieProcess):
            times = psutil.Process(self.pid).cpu_times()
            self._cpu_seconds = times.user + times.system
        return self._cpu_seconds

    def stacks(self) -> str:
        """The stack of each thread, for the report of a process that hangs."""
        before = self._starter.log.stat().st_size
        self.send(signal.SIGUSR1)
        time.sleep(1)
        return self._starter.log.read_bytes()[before:].decode(errors="replace")

    def wait(self) -> int:
        """Wait for the end of the command and return its exit code.

        The code is minus the signal's number if the command was killed. Call this once.
        """
        return self._starter.ask({"wait": self.pid})


class Starter:
    """Starts `llm-scratch` commands (see starter.py)."""

    def __init__(self, log: Path) -> None:
        self.log = log
        here = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        script = [sys.executable, str(Path(__file__).with_name("starter.py"))]
        self._process = subprocess.Popen(
            script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | here
        )
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, what: dict[str, object]) -> int:
        """Send one line, and return one number."""
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, *words: object) -> Process:
        """Start a command."""
        return Process(
            self, self.ask({"words": [str(word) for word in words], "log": str(self.log)})
        )

    def run(self, *words: object) -> int:
        """Run a command to its end; returns its exit code."""
        return self.start(*words).wait()

    def close(self) -> None:
        """Stop the starter process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """The starter of the reliability tests' commands."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, which Windows does not have")
    starter = Starter(tmp_path_factory.mktemp("starter") / "log.txt")
    yield starter
    starter.close()


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run, and the settings to repeat it."""

    words: list[str]
    folder: Path
    cpu_seconds: float


@pytest.fixture(scope="session")
def whole(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The reference run."""
    folder = tmp_path_factory.mktemp("whole")
    text = folder / "hens.txt"
    text.write_text(
        "the hen sat on the red mat, and the fox ran off.\nno hen was seen on the mat since.\n"
        * 60,
        encoding="utf-8",
    )
    words = [*TRAIN.split(), "--data.source", f"file:{text}"]
    process = starter.start(*words, "--out", folder / "run")
    wait_until(lambda: process.cpu_seconds() and process.has_ended(), "the reference run ends")
    cpu_seconds = process.cpu_seconds()
    assert process.wait() == 0, starter.log.read_text()
    return Whole(words, folder / "run", cpu_seconds)


LETTERS = "the cat sat on the mat and the dog sat on the log. " * 24


def tiny(**train: object) -> RunConfig:
    """Return the config of a run of 60 steps, which takes a third of a second.

    It has dropout, two micro-batches, two epochs, and rows that hold parts of two documents.
    """
    often = {
        "eval_every": 20,
        "eval_batches": 2,
        "save_every": 10,
        "sample_every": 0,
        "log_every": 1,
        "prompt": "the cat",
    }
    return RunConfig(
        GPTConfig(
            vocab_size=20, context_length=8, emb_dim=12, n_heads=3, n_layers=1, drop_rate=0.2
        ),
        DataConfig(source="stories", tokenizer="chars"),
        system=SystemConfig(precision="float32", compile="no"),
        train=TrainConfig(
            **(
                {"epochs": 2, "batch_size": 4, "micro_batches": 2, "warmup_steps": 2, "lr": 1e-2}
                | often
                | train
            )
        ),
    )


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Text for `tiny`: 30 batches of four rows, and some validation text."""
    tokenizer = TOKENIZERS["chars"]([LETTERS])
    ids = np.array(tokenizer.encode(LETTERS), dtype=np.int32)
    return Corpus(tokenizer, ids[: 8 * 122], ids[8 * 122 :], len(ids) - 8 * 122)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip disk flushes, long samples and the benchmark of the machine, which other tests cover."""
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("llm_scratch.training.samples.SAMPLE_TOKENS", 12)
    monkeypatch.setattr("llm_scratch.training.loop.environment", lambda *args: {"matrix_rate": 1e9})


def tree_hash(folder: Path) -> dict[str, str]:
    """Every file under a folder with its sha256."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def learned_rows(run: Path) -> list[dict[str, float]]:
    """metrics.jsonl without times."""
    return [
        {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
        for row in iter_metrics(run / "metrics.jsonl")
    ]


def checkpoint_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a checkpoint, and the settings that decide the run.

    The files are the weights, the optimizer's tensors, counters and the random state.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    settings = resume_relevant(json.loads((folder / "config.json").read_text()))
    return {name: entry["sha256"] for name, entry in manifest["files"].items()} | {
        "config.json": str(settings)
    }


def last_checkpoint(run: Path) -> dict[str, str]:
    """`checkpoint_hashes` at the end of a run."""
    return checkpoint_hashes(list_checkpoints(run)[0])


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Assert that two runs ended with the same bits and logged the same steps."""
    assert list_checkpoints(ours)[0].name == list_checkpoints(theirs)[0].name
    assert last_checkpoint(ours) == last_checkpoint(theirs)
    for pointer in ("latest", "best"):
        assert resolve_pointer(ours, pointer) == resolve_pointer(theirs, pointer), pointer
    assert learned_rows(ours) == learned_rows(theirs)
    assert (ours / "samples.md").read_text() == (theirs / "samples.md").read_text()
    left = [
        p.name
        for p in (ours, ours / "ckpt")
        for p in p.iterdir()
        if ".tmp" in p.name or ".part" in p.name
    ]
    assert left == [], "a partial file was left"
