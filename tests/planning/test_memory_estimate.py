"""The memory estimate equals the bytes of a real step for every optimizer and shape.

It allocates nothing itself.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from llm_scratch.config import GPTConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.hardware.memory import resident_memory
from llm_scratch.model import ARCHITECTURES, Architecture, build
from llm_scratch.planning.memory_estimate import AllocationTracker, estimate_memory
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.precision import Precision

SMALL = GPTConfig(vocab_size=300, context_length=32, emb_dim=48, n_heads=3, n_layers=3)


def a_run(model=SMALL, **train):
    return RunConfig(model=model, train=TrainConfig(**{"batch_size": 8} | train))


def peak_of(work):
    """Peak bytes that torch's allocator held during `work`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = work()
    now = peak = 0
    events = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del kept
    return peak


@pytest.mark.parametrize(
    "model",
    [
        SMALL,
        GPTConfig(**dict(SMALL, drop_rate=0.0)),
        GPTConfig(**dict(SMALL, tie_embeddings=True, qkv_bias=True)),
    ],
)
def test_memory_estimate_equals_the_allocations_of_a_real_step(model):
    counted = estimate_memory(a_run(model))
    ids = torch.zeros(8, model.context_length, dtype=torch.long)
    model_with_loss = ModelWithLoss(build(model))
    assert peak_of(lambda: model_with_loss(ids, ids).backward()) == pytest.approx(
        counted.gradients + counted.step, rel=0.01
    )
    model_with_loss.eval()
    with torch.no_grad():
        assert peak_of(lambda: model_with_loss(ids, ids)) == pytest.approx(
            counted.evaluation, rel=0.01
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_memory_estimate_of_weights_gradients_and_optimizer(optimizer):
    config = a_run(optimizer=optimizer)
    counted, model = estimate_memory(config), build(SMALL)
    real = OPTIMIZERS[optimizer](model, config.train)
    ModelWithLoss(model)(ids := torch.zeros(8, 32, dtype=torch.long), ids).backward()
    real.step()
    assert counted.weights == counted.gradients == 4 * SMALL.n_params
    assert counted.optimizer == sum(
        t.nbytes for slots in real.state.values() for t in slots.values()
    )


def test_memory_estimate_is_smaller_in_bfloat16():
    wide = replace(SMALL, emb_dim=192)
    full, half = (
        estimate_memory(a_run(wide), precision=Precision(name, "as requested"))
        for name in ("float32", "bfloat16")
    )
    assert 0.5 * full.step < half.step < 0.9 * full.step
    assert half.weights == full.weights


def test_memory_estimate_decreases_with_micro_batches():
    whole, parts = estimate_memory(a_run()), estimate_memory(a_run(micro_batches=4))
    assert whole.step > 3 * parts.step
    assert whole.evaluation > 3 * parts.evaluation, "evaluation also uses micro-batches"
    assert whole.weights == parts.weights
    one, two, three = (estimate_memory(a_run(batch_size=rows)).step for rows in (8, 16, 24))
    assert three - two == pytest.approx(two - one, rel=0.02)
    assert whole.peak == whole.weights + whole.gradients + whole.optimizer + max(
        whole.step, whole.update, whole.evaluation
    )


def test_memory_estimate_decreases_with_activation_checkpointing():
    config = a_run(replace(SMALL, n_layers=8))
    kept = estimate_memory(config)
    again = estimate_memory(replace(config, system=SystemConfig(activation_checkpointing=True)))
    assert again.step < 0.4 * kept.step
    assert again.weights == kept.weights


def test_memory_estimate_of_a_large_model_allocates_nothing():
    """GPT-3's 175 billion weights take 700 GB; the estimate holds none of them."""
    before = resident_memory()
    large = GPTConfig(context_length=2048, emb_dim=12288, n_heads=96, n_layers=96)
    counted = estimate_memory(
        RunConfig(model=replace(large, n_layers=2), train=TrainConfig(batch_size=1))
    )
    assert counted.weights > 15e9
    assert resident_memory() - before < 2**28


def test_memory_estimate_supports_custom_models(monkeypatch):
    class Twice(nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.cfg, self.table = cfg, nn.Embedding(cfg["vocab_size"], cfg["vocab_size"])

        def forward(self, ids, cache=None):
            return self.table(ids) + self.table(ids)

    monkeypatch.setitem(ARCHITECTURES, "twice", Architecture(GPTConfig, Twice))
    counted = estimate_memory(a_run(replace(SMALL, architecture="twice")))
    assert counted.weights == 4 * 300 * 300


def test_allocation_tracker_subtracts_freed_tensors():
    with AllocationTracker() as held:
        a = torch.ones(1000)  # 4,000 bytes
        b = a[:500]  # the same memory
        c = torch.ones(500)
        assert held.now == 6000
        del c
        assert (held.now, held.peak) == (4000, 6000)
        del a
        assert held.now == 4000, "b keeps it"
        del b
        held.reset_peak()
    assert (held.now, held.peak) == (0, 0)
