"""The timing of steps: speed, MFU, memory, and the seconds of a run that was resumed."""

import pytest
import torch

from llm_scratch.config import ModelConfig
from llm_scratch.hardware.flops import flops_per_token
from llm_scratch.model import build
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS
from llm_scratch.training.step_timer import StepTimer

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return build(ModelConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2))


def test_timing_of_a_step_has_speed_mfu_and_memory(model):
    row = StepTimer(CPU, 1e9).fields(model, tokens=500, seconds=0.25)
    assert row["tokens_per_second"] == 2000
    assert row["mfu"] == pytest.approx(2000 * flops_per_token(model) / 1e9)
    assert row["peak_memory_bytes"] > 50 * 2**20
    assert {*row, "elapsed"} == set(NONDETERMINISTIC_FIELDS)


def test_mfu_is_left_out_without_a_measured_rate(model):
    assert "mfu" not in StepTimer(CPU).fields(model, tokens=500, seconds=0.25)


def test_elapsed_time_continues_on_resume():
    rows = [{"step": 0}, {"step": 1, "elapsed": 1000.0}, {"step": 2, "elapsed": 2000.0}]
    assert 2000.0 <= StepTimer(CPU, rows=rows).elapsed() < 3000.0
