"""Measured rates of this machine: operations per second, measured once, without the warmup."""

from itertools import count

import pytest
import torch

from llm_scratch.hardware import benchmark
from llm_scratch.hardware.benchmark import matmul_flops, read_bandwidth, repeat_timings

CPU = torch.device("cpu")


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock that shows a quarter of a second more at each reading, so that each call takes it."""
    readings = count(step=0.25)
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(readings))
    benchmark._matmul_flops.cache_clear()
    yield
    benchmark._matmul_flops.cache_clear()


@pytest.mark.usefixtures("slow_clock")
def test_rate_is_the_work_of_a_call_divided_by_its_seconds(monkeypatch):
    """A product of two n x n matrices is 2 n^3 FLOPs; a sum of 2^25 float32 reads 4 bytes each."""
    products, multiply = [], torch.mm

    def counted_mm(a, b, out):
        products.append((a.shape, b.shape))
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", counted_mm)
    assert matmul_flops(CPU) == 2 * 1024**3 / 0.25
    assert set(products) == {((1024, 1024), (1024, 1024))}
    assert read_bandwidth(CPU) == 4 * 2**25 / 0.25


@pytest.mark.usefixtures("slow_clock")
def test_matmul_flops_is_measured_once(monkeypatch):
    measurements = []
    monkeypatch.setattr(benchmark, "best_time", lambda *args: measurements.append(args) or 0.5)
    assert {matmul_flops(CPU) for _ in range(100)} == {2 * 1024**3 / 0.5}
    assert len(measurements) == 1
    matmul_flops(CPU, torch.bfloat16)
    assert len(measurements) == 2, "each dtype has its own rate"


@pytest.mark.timing
def test_matmul_flops_and_bandwidth_are_plausible():
    """Outside of these five decades the clock or the count of the work is wrong."""
    assert 1e9 < matmul_flops(CPU) < 1e14
    assert 1e8 < read_bandwidth(CPU) < 1e13


def test_repeat_timings_drops_the_first(monkeypatch):
    clock = iter(
        [0, 10, 15, 20, 21, 30, 30.75, 40]
    )  # when it began, then the start and end of each
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(clock))
    assert repeat_timings(lambda: None, CPU, seconds=0.0) == pytest.approx([1.0, 0.75])


def test_timing_does_not_change_the_random_state():
    before = torch.get_rng_state()
    benchmark._matmul_flops.cache_clear()
    matmul_flops(CPU, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_repeat_timings_reads_the_given_clock():
    readings = count(step=3)
    assert repeat_timings(lambda: None, CPU, 0.0, lambda: next(readings)) == [3, 3]
