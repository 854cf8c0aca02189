"""The spike threshold equals the formula; each step is kept, skipped or rolled back."""

import json

import numpy as np
import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.recovery import (
    MAX_CONSECUTIVE_BAD,
    WINDOW,
    Decision,
    Recovery,
    RecoveryState,
    SpikeDetector,
)
from llm_scratch.training.step import step_if

NORM = torch.tensor(1.0)


def filled(losses, sigmas=6.0):
    detector = SpikeDetector(sigmas)
    for loss in losses:
        assert detector.accept(torch.tensor(float(loss)), NORM)
    return detector


def test_spike_threshold_is_mean_plus_deviations_of_recent_losses():
    losses = np.random.default_rng(0).normal(3.0, 0.1, 300).astype(np.float32)
    last = losses[-WINDOW:]
    limit = last.mean(dtype=np.float64) + 6 * last.std(ddof=1, dtype=np.float64)
    for loss, good in ((limit * 0.9999, True), (limit * 1.0001, False), (0.01, True), (1e9, False)):
        assert bool(filled(losses).accept(torch.tensor(loss, dtype=torch.float32), NORM)) is good


@pytest.mark.parametrize("known", [0, 1, WINDOW - 1])
def test_spike_detector_accepts_everything_until_its_window_is_full(known):
    assert filled([1.0] * known).accept(torch.tensor(1e6), NORM)


def test_constant_loss_has_no_spikes():
    detector = filled([2.3] * 200)
    assert detector.accept(torch.tensor(2.3001), NORM)
    assert not detector.accept(torch.tensor(2.4), NORM)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_loss_or_gradient_is_rejected_and_not_recorded(bad):
    for detector in (filled([2.0, 2.1] * 100), SpikeDetector(0.0)):
        before = detector.state()
        assert not detector.accept(torch.tensor(bad), NORM)
        assert not detector.accept(torch.tensor(2.0), torch.tensor(bad))
        assert detector.state() == before


def test_rejected_losses_do_not_change_the_statistics():
    detector = filled(np.linspace(2.0, 2.2, WINDOW))
    assert [bool(detector.accept(torch.tensor(50.0), NORM)) for _ in range(5)] == [False] * 5
    assert detector.losses.max() < 2.3


def test_spike_detector_state_round_trips():
    detector = filled(np.random.default_rng(1).normal(3.0, 0.5, 140))
    other = SpikeDetector(6.0)
    other.restore(json.loads(json.dumps(detector.state())))
    assert torch.equal(other.losses, detector.losses)
    assert other.known == detector.known == 140
    for loss in (3.3, 7.0, 2.0):
        assert detector.accept(torch.tensor(loss), NORM) == other.accept(torch.tensor(loss), NORM)
    assert detector.state() == other.state()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_step_with_found_inf_changes_nothing(name):
    """A NaN gradient changes no bit, also on a GPU, where the host never reads the flag."""
    torch.manual_seed(0)
    model = GPTModel(
        {
            "vocab_size": 20,
            "context_length": 8,
            "emb_dim": 12,
            "n_heads": 3,
            "n_layers": 1,
            "drop_rate": 0.0,
        }
    )
    optimizer = OPTIMIZERS[name](model, TrainConfig(lr=0.01))
    assert optimizer._step_supports_amp_scaling

    class OnGPU(torch.Tensor):
        device = torch.device("cuda")

    def learn(good):
        optimizer.zero_grad()
        (
            model(torch.randint(0, 20, (2, 8))).square().mean() * (1.0 if good else float("nan"))
        ).backward()
        step_if(torch.tensor(good).as_subclass(OnGPU), optimizer)
        state = [value.clone() for slots in optimizer.state.values() for value in slots.values()]
        return [p.detach().clone() for p in model.parameters()] + state

    first, bad, last = learn(True), learn(False), learn(True)
    assert all(torch.equal(a, b) for a, b in zip(first, bad, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(bad, last, strict=True))


def test_recovery_counts_consecutive_and_total_bad_steps():
    recovery = Recovery()
    decisions = [recovery.decide(accepted) for accepted in (True, False, False, True, False)]
    assert decisions == [Decision.KEEP, Decision.SKIP, Decision.SKIP, Decision.KEEP, Decision.SKIP]
    assert recovery.counts == RecoveryState(consecutive_bad=1, skipped=3)


def test_recovery_rolls_back_after_three_consecutive_bad_steps():
    recovery = Recovery()
    assert [recovery.decide(False) for _ in range(MAX_CONSECUTIVE_BAD)] == [
        Decision.SKIP,
        Decision.SKIP,
        Decision.ROLLBACK,
    ]


def test_rollback_is_counted_and_skips_the_batches_since_the_checkpoint():
    recovery = Recovery()
    before = RecoveryState(consecutive_bad=3, skipped=4, rollbacks=1, skipped_batches=5)
    message = recovery.count_rollback(before, failed_at=25, step=20)
    assert message.startswith("steps 23 to 25 were bad")
    assert message.endswith("rolled back to step 20, skipping 5 batches (rollback 2 of 3)")
    assert recovery.counts == RecoveryState(
        consecutive_bad=0, skipped=4, rollbacks=2, skipped_batches=10
    )


def test_recovery_state_round_trips_with_its_statistics():
    recovery, other = Recovery(6.0), Recovery(6.0)
    for loss in (2.0, 2.1, float("nan")):
        recovery.decide(bool(recovery.accept(torch.tensor(loss), NORM)))
    other.restore(json.loads(json.dumps(recovery.state())))
    assert other.state() == recovery.state()
    assert other.counts.skipped == 1
    recovery.forget_losses()
    assert recovery.state()["spike_detector"]["known"] == 0
    assert recovery.counts == other.counts
