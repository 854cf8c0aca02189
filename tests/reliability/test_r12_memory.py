"""R12: a save takes hardly any memory: tensors go to the disk one at a time, hashed on the way."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
import torch
from llm_scratch import checkpoint

weights = {f"w{n}": torch.rand(500_000) for n in range(10)}
optimizer = {f"w{n}/{slot}": torch.rand(500_000) for n in range(10) for slot in ("exp_avg", "exp_avg_sq")}
state = sum(t.nbytes for t in (*weights.values(), *optimizer.values()))
small = {"w": torch.ones(1)}
checkpoint.save(Path(sys.argv[1]), 1, {}, small, small, {}, lambda folder: None)  # what the first save imports is not a save's memory

def highest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def of_whole(use, *args):
    before = highest()
    use(*args)
    return (highest() - before) / state

def save(step):
    checkpoint.save(Path(sys.argv[1]), step, {}, weights, optimizer, {}, lambda folder: None)

print(json.dumps({"save": of_whole(save, 2), "again": of_whole(save, 3)}))
"""


def test_r12_a_save_takes_hardly_any_memory(tmp_path, measured):
    pytest.importorskip("resource", reason="needs a process's highest memory, which Windows tells otherwise")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    shares = json.loads(done.stdout)
    assert max(shares.values()) <= 0.25  # nothing is held twice; the row asks for at most 1.25 of the state on top
    measured("R12", f"{max(shares.values()):.2f} x the state over steady state (60 MB of state)", "at most 1.25 x the state")
