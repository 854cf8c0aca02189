"""R12: a save needs little memory, and a background save blocks only for a copy.

Tensors are written one at a time, while training continues.

Training has one core here; if it had all of them,
a background save would slow down the steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

SCRIPT = """
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from llm_scratch.config import DataConfig, SystemConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.loop import train
from llm_scratch.hardware.memory import peak_memory, resident_memory
from llm_scratch.hardware.allocator import keep_freed_memory
from llm_scratch.training.callbacks import Callback

EVERY, STEPS = 30, 100  # three saves while it trains, and the last

def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")  # the most memory held so far is what is held now

class Clock(Callback):
    def __init__(self):
        self.times, self.before, self.extra = [], 0, []
    def step(self, run, row):
        if run.step % EVERY == EVERY - 1:  # the last step before a save
            forget_peak()
            self.before = resident_memory()
        if run.step % EVERY == EVERY - 2 and run.step > EVERY:  # the last save is over
            self.extra.append(peak_memory(torch.device("cpu")) - self.before)
        self.times.append(time.perf_counter())

keep_freed_memory()
text = "the cat sat on the mat. " * 40
tokenizer = TOKENIZERS["chars"]([text])
ids = np.array(tokenizer.encode(text), dtype=np.int32)
corpus = Corpus(tokenizer, ids[:800], ids[800:], len(ids) - 800)
rare = TrainConfig(
    steps=STEPS, batch_size=2, save_every=EVERY, eval_every=1000, eval_batches=1, sample_every=0
)
model = GPTConfig(vocab_size=20, context_length=8, emb_dim=512, n_heads=4, n_layers=5)
machine = SystemConfig(precision="float32", compile="no", async_save=sys.argv[2])
clock = Clock()
config = RunConfig(model, DataConfig(tokenizer="chars"), rare, machine)
run = train(config, sys.argv[1], corpus=corpus, callbacks=[clock])
gaps = np.diff([0.0, *clock.times])  # gaps[n - 1]: until step n was done
blocked = [gaps[n] - np.median(gaps[1:]) for n in range(EVERY, STEPS - 1, EVERY)]
copy = []
for _ in range(5):
    began = time.perf_counter()
    copies = [t.clone() for tensors in run.state_tensors() for t in tensors.values()]
    copy.append(time.perf_counter() - began)
size, blocked, copy = sum(t.nbytes for t in copies), np.median(blocked), np.median(copy)
milliseconds = {"blocked": blocked * 1000, "copy": copy * 1000}
print(json.dumps({"extra": max(clock.extra) / size, "MB": size / 1e6, **milliseconds}))
"""


def run_and_look(folder: Path, background: str) -> dict[str, float]:
    """Train on one core, save, and return memory above the steady state and milliseconds.

    The memory is a multiple of the state's size; the times are those of a save and of a copy.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as e:
        pytest.skip(
            "needs to reset the peak memory of a process,"
            f" which Linux's /proc/self/clear_refs allows: {e.strerror}"
        )
    words, one = [sys.executable, "-c", SCRIPT, str(folder), background], {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=os.environ | one
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timing  # an elapsed time
def test_r12_background_save_blocks_only_for_a_copy(tmp_path, measured):
    """Take the median of three saves."""
    save = run_and_look(tmp_path, "yes")
    assert save["blocked"] <= save["copy"] + 50
    size = f"{save['MB']:.0f} MB of state"
    measured(
        "R12",
        f"{save['blocked']:.0f} ms for {size}, of which the copy {save['copy']:.0f} ms",
        "blocks for at most 50 ms and the time of a copy",
    )


def test_r12_background_save_needs_memory_for_one_copy(tmp_path, measured):
    """The copy is visible in the memory, which shows that the measurement works."""
    save = run_and_look(tmp_path, "yes")
    assert 0.9 < save["extra"] <= 1.25
    measured(
        "R12",
        f"{save['extra']:.2f} x the state's size above the steady state"
        f" ({save['MB']:.0f} MB of state)",
        "at most 1.25 x the state's size",
    )


@pytest.mark.slow
def test_r12_blocking_save_needs_no_copy(tmp_path, measured):
    save = run_and_look(tmp_path, "no")
    assert save["extra"] <= 0.25
    reached = (
        f"{save['extra']:.2f} x the state's size above the steady state,"
        f" {save['blocked']:.0f} ms ({save['MB']:.0f} MB of state)"
    )
    measured("R12", reached, "without memory for a copy: at most 0.25 x the state's size")
