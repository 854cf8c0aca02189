"""A run that cannot fit into memory is rejected with the setting to change.

The bound never exceeds a real run.
"""

from __future__ import annotations

import pytest
import torch

from llm_scratch.config import GPTConfig, ModelConfig, RunConfig, TrainConfig, from_dict
from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.planning import memory_check
from llm_scratch.planning.memory_check import check_memory, lower_bound
from llm_scratch.planning.memory_estimate import estimate_memory

CPU = torch.device("cpu")
SMALL = GPTConfig(
    vocab_size=64, context_length=16, emb_dim=16, n_heads=2, n_layers=2, drop_rate=0.0
)


def run(**settings):
    model = {
        name: settings.pop(name)
        for name in list(settings)
        if name in GPTConfig.__dataclass_fields__
    }
    return RunConfig(
        from_dict(ModelConfig, model, SMALL), train=TrainConfig(**{"batch_size": 4} | settings)
    )


@pytest.fixture
def free(monkeypatch):
    """Set the available memory."""
    monkeypatch.setattr(memory_check, "resident_memory", lambda: 0)

    def there(n_bytes):
        monkeypatch.setattr(memory_check, "free_memory", lambda device: n_bytes)

    return there


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"batch_size": 10**6},
            "use a smaller --train.batch-size, or --train.micro-batches 5 or more",
        ),
        ({"vocab_size": 10**8}, "use a smaller --model.vocab-size"),
        ({"context_length": 10**8}, "use a smaller --model.context-length"),
        ({"n_layers": 9000, "emb_dim": 256}, "use a smaller --model.emb-dim or --model.n-layers"),
    ],
)
def test_run_too_large_is_refused_with_the_setting_to_change(free, settings, advice):
    free(512 * 10**6)
    with pytest.raises(
        UserError,
        match=(
            "^memory: the run needs at least .* but only 488 MiB are free;"
            f" {advice}, or .*--ignore-memory$"
        ),
    ) as error:
        check_memory(run(**settings), CPU)
    assert error.value.code == RESOURCES


def test_small_run_passes_without_a_memory_estimate(free, monkeypatch):
    monkeypatch.setattr(
        memory_check,
        "estimate_memory",
        lambda *args: pytest.fail("a small run needs no memory estimate"),
    )
    free(10**9)
    check_memory(run(), CPU)
    free(None)
    check_memory(run(batch_size=10**6), CPU)


def test_run_near_the_limit_is_decided_by_its_memory_estimate(free):
    config = run(batch_size=64)
    needed = estimate_memory(config).peak
    free(needed)
    check_memory(config, CPU)
    free(needed - 1)
    with pytest.raises(UserError, match="memory: the run needs at least"):
        check_memory(config, CPU)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "muon"},
        {"batch_size": 64, "micro_batches": 4},
        {"architecture": "nanochat"},
    ],
)
def test_lower_bound_is_at_most_what_a_step_holds(settings):
    config = run(**settings)
    assert (
        sum(lower_bound(config))
        <= estimate_memory(config).peak + 2 * 8 * config.train.batch_size * 16
    )
