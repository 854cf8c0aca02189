"""Measured rates of this machine: plausible, measured once, warm-up excluded."""

import time

import pytest
import torch

from llm_scratch.hardware import benchmark
from llm_scratch.hardware.benchmark import matmul_flops, read_bandwidth, repeat_timings

CPU = torch.device("cpu")


def test_rates_are_those_of_a_machine():
    assert 1e9 < matmul_flops(CPU) < 1e14
    assert 1e8 < read_bandwidth(CPU, seconds=0.02) < 1e13


def test_the_matrix_rate_is_measured_once():
    first, began = matmul_flops(CPU), time.perf_counter()
    assert all(matmul_flops(CPU) == first for _ in range(100))
    assert time.perf_counter() - began < 0.1


def test_the_first_time_does_not_count(monkeypatch):
    clock = iter([0, 10, 15, 20, 21, 30, 30.75, 40])  # when it began, then the start and end of each
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert repeat_timings(lambda: None, CPU, seconds=0.0) == pytest.approx([1.0, 0.75])


def test_measuring_draws_no_random_number_of_the_caller():
    before = torch.get_rng_state()
    benchmark._matmul_flops.cache_clear()
    matmul_flops(CPU, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), before)
