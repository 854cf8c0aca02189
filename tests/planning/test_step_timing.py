"""Step timing keeps to its time, times a fast model directly, and scales up a slow one."""

from itertools import count

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from llm_scratch.architectures import config_class
from llm_scratch.config import GPTConfig, RunConfig, TrainConfig
from llm_scratch.planning import step_timing
from llm_scratch.planning.step_timing import StepCost, estimate_step_time, layer_kinds

CPU = torch.device("cpu")


def a_run(n_layers=3, vocab_size=64, **train):
    model = GPTConfig(
        vocab_size=vocab_size, context_length=16, emb_dim=16, n_heads=2, n_layers=n_layers
    )
    return RunConfig(model=model, train=TrainConfig(**{"batch_size": 8} | train))


@pytest.fixture
def priced(monkeypatch):
    """Simulate a machine with known costs per row: 1 s per layer and per 64 tokens of vocabulary.

    An optimizer step costs a tenth of that.
    """
    timed = []

    def price(config, rows, T, device, seconds, layers=None, clock=None):
        layers = config.model.n_layers if layers is None else len(layers)
        head = config.model.vocab_size / 64
        timed.append((layers, config.model.vocab_size, rows, T))
        learn = rows * (layers + head)
        return StepCost(learn, 0.1 * (layers + head), learn / 4)

    monkeypatch.setattr(step_timing, "_time", price)
    return timed


def test_step_timing_uses_a_fast_model_directly(priced):
    found = estimate_step_time(a_run(micro_batches=4), CPU, matrix_rate=1e15, width=9)
    assert priced == [(3, 64, 2, 9)]
    assert found.seconds == pytest.approx(4 * 2 * 4 + 0.4)
    assert found.eval_seconds == pytest.approx(4 * 2 * 4 / 4)
    assert found.method == "steps of this run"


def test_step_timing_scales_up_a_slow_model(priced):
    """Time one and two of 12 layers with half of the vocabulary, and as many rows as fit."""
    found = estimate_step_time(
        a_run(n_layers=12, vocab_size=256 * 64), CPU, matrix_rate=1e8, seconds=1.0
    )
    assert [(layers, vocabulary) for layers, vocabulary, *_ in priced] == [(1, 8192), (2, 8192)]
    assert 1 <= priced[0][2] < 8
    assert found.seconds == pytest.approx(8 * (12 + 256) + 0.1 * (12 + 256))
    assert found.eval_seconds == pytest.approx(8 * (12 + 256) / 4)
    assert "1 and 2 of 12 layers" in found.method


def test_step_timing_uses_at_least_one_row(priced):
    estimate_step_time(a_run(n_layers=12), CPU, matrix_rate=1.0)
    assert priced == [(1, 64, 1, 16), (2, 64, 1, 16)]


@pytest.mark.parametrize(
    ("matrix_rate", "step_seconds", "eval_seconds"),
    [
        (1e15, 2 * 1 + 1, 2 * 1),  # the model itself: two micro-batches, and the optimizer
        (1.0, 8 * 1 + 1, 8 * 1),  # one row of eight; a second layer adds nothing to the first
    ],
)
def test_step_timing_does_not_change_random_state(
    matrix_rate, step_seconds, eval_seconds, monkeypatch
):
    """A clock that advances a second at each reading, so that every call takes a second."""
    readings = count()
    monkeypatch.setattr("llm_scratch.hardware.benchmark.perf_counter", lambda: next(readings))
    before, updates = torch.get_rng_state(), []
    with register_optimizer_step_post_hook(lambda *args: updates.append(args)):
        found = estimate_step_time(
            a_run(micro_batches=2), CPU, matrix_rate=matrix_rate, seconds=0.02
        )
    assert (found.seconds, found.eval_seconds) == (step_seconds, eval_seconds)
    assert len(updates) >= 3, "the optimizer's update is timed too: a warm-up and at least two"
    assert torch.equal(torch.get_rng_state(), before)


SIZES = {"vocab_size": 64, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 5}
FEW = {"n_experts": 2, "experts_per_token": 1}
MIXED = {
    "windows": {"architecture": "gemma", "window": 4, "full_every": 3},
    "dense first layers": {"architecture": "deepseek", "n_dense_layers": 2, **FEW},
    "delta rules": {"architecture": "qwen_next", **FEW},
}


def mixed(settings):
    return config_class(settings["architecture"])(**SIZES | settings)


@pytest.mark.parametrize(
    ("settings", "kinds"), list(zip(MIXED.values(), [{0: 4, 2: 1}, {0: 2, 2: 3}, {0: 4, 3: 1}]))
)
def test_layers_that_cost_the_same_are_a_kind(settings, kinds):
    assert layer_kinds(mixed(settings), 16) == kinds


def test_window_as_long_as_a_row_is_none():
    assert layer_kinds(mixed(MIXED["windows"]), 4) == {0: 5}


@pytest.mark.parametrize("name", ["dense first layers", "delta rules"])
def test_estimate_of_mixed_layers_is_the_count_of_their_products(name, monkeypatch):
    """By a clock that counts FLOPs, the estimate from slices is that of the whole step."""

    def counted(function, device, seconds, clock):
        with FlopCounterMode(display=False) as counter:
            function()
        return [counter.get_total_flops()]

    monkeypatch.setattr(step_timing, "repeat_timings", counted)
    config = RunConfig(mixed(MIXED[name]), train=TrainConfig(batch_size=2))
    whole, estimate = (estimate_step_time(config, CPU, rate) for rate in (1e15, 1.0))
    assert whole.method == "steps of this run"
    assert estimate.method.startswith("2 and 3 of 5 layers, 1 of 2 rows")
    assert estimate.seconds == pytest.approx(whole.seconds, rel=1e-6)
    assert estimate.eval_seconds == pytest.approx(whole.eval_seconds, rel=1e-6)
