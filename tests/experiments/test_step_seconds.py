"""Arms are timed so that a varying load does not change their budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llm_scratch.config import GPTConfig, RunConfig, TrainConfig
from llm_scratch.experiments import step_seconds as module
from llm_scratch.experiments.step_seconds import interleaved_seconds, step_seconds
from llm_scratch.hardware.thread_timer import thread_clock
from llm_scratch.planning.step_timing import StepTiming

MODEL = GPTConfig(vocab_size=40, context_length=16, emb_dim=16, n_heads=2, n_layers=1)
CONFIG = RunConfig(MODEL, train=TrainConfig(steps=4, batch_size=2))
CONFIGS = [CONFIG.with_model(emb_dim=width) for width in (16, 32, 48)]
ROUNDS = 5


class Machine:
    """A machine with a clock, on which a step takes 1 ms per 16 of width, times the load.

    Args:
        load: the load at a time in milliseconds.
    """

    def __init__(self, load):
        self.load = load
        self.now = 0.0
        self.timed = []

    def __call__(self, config):
        took = config.model.emb_dim / 16 * self.load(self.now)
        self.now += took
        self.timed.append(CONFIGS.index(config))
        return took


@pytest.mark.parametrize(
    "load",
    [
        lambda now: 1.0,
        lambda now: 3.0 if now < 7 else 1.0,  # busy during the first round
        lambda now: 4.0 if 8 < now < 11 or 19 < now < 24 else 1.0,  # twice, during a few timings
    ],
)
def test_other_load_does_not_change_the_ratios_of_step_times(load):
    seconds = interleaved_seconds(CONFIGS, Machine(load), ROUNDS)
    assert seconds == [1.0, 2.0, 3.0]


def test_load_that_grows_favors_no_arm():
    """In sequential timing the last arm would appear twice as slow."""
    machine = Machine(lambda now: 1 + now / 30)
    one, two, three = interleaved_seconds(CONFIGS, machine, ROUNDS)
    assert machine.load(machine.now) > 2
    assert (two / one, three / one) == pytest.approx((2, 3), rel=0.1)


def test_every_arm_is_timed_once_in_each_round_and_none_is_always_first():
    machine = Machine(lambda now: 1.0)
    interleaved_seconds(CONFIGS, machine, 3)
    assert machine.timed == [0, 1, 2, 1, 2, 0, 2, 0, 1]


def test_settings_that_do_not_change_a_step_are_timed_once(monkeypatch):
    timed = []

    def estimate(config, device, rate, seconds, clock):
        timed.append(config.train.batch_size)
        return StepTiming(float(config.train.batch_size), 1.0, "its own steps")

    monkeypatch.setattr(module, "estimate_step_time", estimate)
    monkeypatch.setattr(module, "matmul_flops", lambda *args: 1e9)
    changes = [{}, {"lr": 0.5, "seed": 7, "schedule": "linear"}, {"batch_size": 4}]
    configs = [replace(CONFIG, train=replace(CONFIG.train, **change)) for change in changes]
    assert step_seconds(configs, rounds=3) == [2.0, 2.0, 4.0]
    assert len(timed) == 6


@pytest.mark.parametrize(("threads", "clock"), [(1, thread_clock()), (2, None)])
def test_processor_time_counts_on_one_thread(threads, clock, monkeypatch):
    """Other load changes the wall time of a step, and not its processor time."""
    clocks = []

    def estimate(config, device, rate, seconds, clock):
        clocks.append(clock)
        return StepTiming(1.0, 1.0, "its own steps")

    monkeypatch.setattr(module, "estimate_step_time", estimate)
    monkeypatch.setattr(module, "matmul_flops", lambda *args: 1e9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    step_seconds([CONFIG], rounds=2)
    assert clocks == [clock, clock]


def test_real_steps_are_timed(monkeypatch):
    monkeypatch.setattr(module, "TIMING_SECONDS", 0.0)
    small, large = step_seconds([CONFIG, CONFIG.with_model(emb_dim=32)], rounds=1)
    assert small > 0
    assert large > 0
