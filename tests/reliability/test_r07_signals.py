"""R7: after SIGTERM, SIGINT or SIGHUP the run saves, and resumes to the same bits.

The exit code names the signal.
"""

from __future__ import annotations

import random
import re
import signal

import pytest
from effort import wait_until

from llm_scratch.errors import UserError
from llm_scratch.storage import files
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

from .conftest import SAVE_EVERY, STEPS, assert_same_run, learned_rows, tiny

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
SEED = 7
MAX_STEPS_AFTER = 1  # the running step is completed


class Signal(Callback):
    """Send a signal at a step: after it, during the evaluation, or inside a save."""

    def __init__(self, step, name, moment):
        self.at, self.moment, self.number = step, moment, getattr(signal, name)
        self.sent_at_step = None

    def send(self, step):
        self.sent_at_step = step
        signal.raise_signal(self.number)

    def step(self, run, row):
        if run.step == self.at and self.moment == "step":
            self.send(run.step)

    def evaluated(self, run, scores):
        if run.step >= self.at and self.moment == "evaluation" and self.sent_at_step is None:
            self.send(run.step)


class SignalDisk(files.FileSystem):
    """Send the signal while a file of a checkpoint is written."""

    def __init__(self, callback):
        self.callback = callback

    def write(self, path, pieces):
        super().write(path, pieces)
        if path.name != "optim.safetensors" or self.callback.sent_at_step is not None:
            return
        if (step := int(re.search(r"step-(\d{8})", path.parent.name)[1])) >= self.callback.at:
            self.callback.send(step)


@pytest.mark.usefixtures("quick")
def test_r7_signal_at_any_step_saves_and_resumes_with_the_same_bits(
    corpus, tmp_path, monkeypatch, measured
):
    train(tiny(), tmp_path / "whole", corpus=corpus)
    rng, most = random.Random(SEED), 0
    for number in range(30):
        name, moment = list(CODES)[number % 3], ("step", "evaluation", "save")[number // 3 % 3]
        run = tmp_path / str(number)
        callback = Signal(rng.randrange(1, 60 if moment == "step" else 40), name, moment)
        monkeypatch.setattr(
            files, "filesystem", SignalDisk(callback) if moment == "save" else files.FileSystem()
        )
        with pytest.raises(UserError, match="stopped at step .* saved in") as error:
            train(tiny(), run, corpus=corpus, callbacks=[callback])
        stopped = max(row["step"] for row in learned_rows(run))
        most = max(most, stopped - callback.sent_at_step)
        assert (error.value.code, list_checkpoints(run)[0].name) == (
            CODES[name],
            f"step-{stopped:08d}",
        ), f"seed {SEED}, {name} in a {moment}"
        train(tiny(), run, corpus=corpus)
        assert_same_run(run, tmp_path / "whole")
    assert most <= MAX_STEPS_AFTER
    measured(
        "R7",
        f"30 of 30 saved, at most {most} steps after the signal, and resumed to the same bits",
        f"30 steps, saved after at most {MAX_STEPS_AFTER} more, identical",
    )


@pytest.mark.parametrize("name", CODES)
def test_r7_command_exits_with_the_code_of_the_signal(name, starter, whole, tmp_path, measured):
    process = starter.start(*whole.words, "--out", tmp_path / "run")
    run = tmp_path / "run"
    wait_until(
        lambda: any(row["step"] > SAVE_EVERY for row in learned_rows(run)), "a step after a save"
    )
    process.send(getattr(signal, name))
    assert process.wait() == CODES[name]
    assert list_checkpoints(tmp_path / "run")[0].name != f"step-{STEPS:08d}"
    assert starter.run(*whole.words, "--out", tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", whole.folder)
    measured("R7", f"{name}: exit code {CODES[name]}, resumed to the same bits", "143, 130 (129)")
