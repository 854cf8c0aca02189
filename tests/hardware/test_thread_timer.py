"""Work is timed by its own processor time, where that clock is fine enough."""

from types import SimpleNamespace

import pytest
import torch

from llm_scratch.hardware import thread_timer
from llm_scratch.hardware.thread_timer import one_thread, thread_seconds


@pytest.fixture(autouse=True)
def _new_process():
    """Choose the clock again, as in a new process."""
    thread_timer.thread_clock.cache_clear()
    yield
    thread_timer.thread_clock.cache_clear()


def test_processor_time_counts_where_its_clock_is_fine(monkeypatch):
    reads = iter(range(10**6))
    clocks = SimpleNamespace(thread_time=lambda: next(reads) * 1e-6, perf_counter=pytest.fail)
    monkeypatch.setattr(thread_timer, "time", clocks)
    assert thread_seconds(lambda: None) == pytest.approx(1e-6)


def test_coarse_processor_clock_is_replaced_by_the_wall_clock(monkeypatch):
    """On Windows it has steps of 16 ms, so a trial took 0 s, and a ratio of two divided by 0."""
    seconds = iter([1.0, 3.0])
    clocks = SimpleNamespace(thread_time=lambda: 1 / 64, perf_counter=lambda: next(seconds))
    monkeypatch.setattr(thread_timer, "time", clocks)
    assert thread_seconds(lambda: None) == 2


def test_calls_are_counted_and_the_threads_are_restored():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        with one_thread():
            thread_seconds(lambda: seen.append(torch.get_num_threads()), 3)
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
