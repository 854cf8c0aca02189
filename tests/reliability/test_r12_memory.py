"""R12: a save takes hardly any memory: tensors go to the disk one at a time, hashed on the way. The step after it waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from llm_scratch.config import DataConfig, MachineConfig, ModelConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.loop import start
from llm_scratch.training.machine import peak_memory, resident_memory

text = "the cat sat on the mat. " * 40
tokenizer = TOKENIZERS["chars"]([text])
ids = np.array(tokenizer.encode(text), dtype=np.int32)
corpus, cpu = Corpus(tokenizer, ids[:800], ids[800:], len(ids) - 800), torch.device("cpu")

def a_run(emb_dim, n_layers):
    model = ModelConfig(vocab_size=20, context_length=8, emb_dim=emb_dim, n_heads=4, n_layers=n_layers)
    train, machine = TrainConfig(steps=9, batch_size=2), MachineConfig(precision="float32", compile="no")
    run = start(RunConfig(model, DataConfig(tokenizer="chars"), train, machine), Path(sys.argv[1]) / str(emb_dim), cpu, corpus)
    run.advance()
    return run

def save(run):
    run.save(*run.contents(), best=True, before=lambda: None)

save(a_run(16, 1))  # what the first save imports is not a save's memory
run = a_run(512, 5)
state = sum(t.nbytes for tensors in run.contents() for t in tensors.values())
shares, seconds = [], []
for _ in range(2):
    run.advance()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory held so far is what is held now
    before, began = resident_memory(), time.perf_counter()
    save(run)
    seconds.append(time.perf_counter() - began)
    shares.append((peak_memory(cpu) - before) / state)
Path("/proc/self/clear_refs").write_text("5")
before = resident_memory()
copies = [t.clone() for tensors in run.contents() for t in tensors.values()]
print(json.dumps({"saves": shares, "a copy": (peak_memory(cpu) - before) / state, "seconds": max(seconds), "megabytes": state / 1e6}))
"""


def test_r12_a_save_takes_hardly_any_memory(tmp_path, measured):
    """`Run.save` of a model and AdamW's memory of it. That a copy of both is seen shows that the measure works."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as e:
        pytest.skip(f"needs a process's highest memory to begin anew, which Linux's /proc/self/clear_refs allows: {e.strerror}")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert 0.9 < said["a copy"] < 1.2
    assert max(said["saves"]) <= 0.25  # nothing is held twice; the row asks for at most 1.25 of the state over steady state
    size = f"{said['megabytes']:.0f} MB of state"
    measured("R12", f"{max(said['saves']):.2f} x the state over steady state ({size})", "at most 1.25 x the state")
    measured("R12", f"{said['seconds'] * 1000:.0f} ms for {size}", "a save in the background (50 ms + copy) is not built: training waits")
