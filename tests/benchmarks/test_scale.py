"""Estimates for many GPUs equal manual calculations and torch's sizes.

docs/scale.md shows them.
"""

import sys
from pathlib import Path

import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.state import optimizer_tensors, unique_state_dict

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)  # scripts, not a package

import scale as tables  # noqa: E402
from cluster_costs import (  # noqa: E402
    ADAMW,
    GRADIENT,
    STATE,
    WEIGHT,
    Cluster,
    Shape,
    activations,
    costs,
    critical_batch_size,
)  # noqa: E402

sys.path.remove(BENCHMARKS)  # its reliability.py would hide tests/reliability

SMALL = Shape("small", 100e6, 10, 1000, 1024, 50257, 2**20)


def test_scale_bytes_per_parameter_equal_torch():
    model = GPTModel(
        {
            "vocab_size": 50,
            "context_length": 8,
            "emb_dim": 24,
            "n_heads": 3,
            "n_layers": 2,
            "drop_rate": 0.0,
        }
    )
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig())
    model(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    optimizer.step()
    params = sum(p.numel() for p in model.parameters())
    assert sum(p.nbytes for p in model.parameters()) == WEIGHT * params
    assert sum(p.grad.nbytes for p in model.parameters()) == GRADIENT * params
    kept = {name: t for name, t in optimizer_tensors(model, optimizer).items() if t.ndim}
    assert sum(t.nbytes for t in kept.values()) == ADAMW * params
    assert (
        sum(t.nbytes for t in (*unique_state_dict(model).values(), *kept.values()))
        == STATE * params
    )


def test_scale_costs_equal_a_manual_calculation():
    """Check 100 M parameters on 16 GPUs: each sends 15/8 of 400 MB of gradients."""
    c = costs(
        SMALL, 16, Cluster(flops=1e15, used=0.5, between=50e9, disk=1e9, hours=16_000, start=100)
    )
    assert c.rows == 64
    assert c.passed == pytest.approx(750e6)
    assert c.all_reduce == pytest.approx(0.015)
    assert c.compute == pytest.approx(6 * 1e8 * 2**20 / 16 / 5e14)
    assert c.efficiency == 1.0, "15 ms hidden behind the backward pass of 79 ms"
    assert c.fsdp == pytest.approx(1.6e9 / 16 + 2 * 4e7 + activations(SMALL, 1))
    assert c.ddp == pytest.approx(1.6e9 + activations(SMALL, 1))
    assert c.failure == 1000
    assert c.save_every == pytest.approx((2 * 1.2 * 3.6e6) ** 0.5)
    assert c.lost == pytest.approx(1.2 / c.save_every + (c.save_every / 2 + 101.2) / 3.6e6)


def test_scale_communication_and_memory_by_gpu_count():
    many = [costs(SMALL, n) for n in (1, 2, 8, 16, 64, 1024)]
    assert (many[0].passed, many[0].efficiency) == (0, 1.0)
    for a, b in zip(many, many[1:]):
        assert b.passed > a.passed
        assert b.passed < 2 * GRADIENT * SMALL.params
        assert b.fsdp < a.fsdp
        assert b.compute < a.compute
        assert 0 < b.efficiency <= a.efficiency
        assert b.failure < a.failure
        assert b.lost > a.lost


def test_scale_checkpoint_interval_is_optimal():
    c, save = costs(SMALL, 64), SMALL.params * STATE / Cluster().disk

    def lost(every):
        return save / every + every / 2 / (c.failure * 3600)

    assert lost(c.save_every) < min(lost(0.9 * c.save_every), lost(1.1 * c.save_every))


@pytest.mark.parametrize(("loss", "tokens"), [(4.0, 0.27e6), (3.0, 1.07e6), (2.0, 7.4e6)])
def test_critical_batch_size_equals_kaplan(loss, tokens):
    assert critical_batch_size(loss) == pytest.approx(tokens, rel=0.02)


def test_scale_page_shows_the_computed_values():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page) == page, "python benchmarks/scale.py --write"
