"""A pool of processes where the system has one, else a warning and none."""

from __future__ import annotations

import multiprocessing.synchronize

import pytest

from llm_scratch.hardware.worker_pool import start_worker_pool


def test_pool_computes_in_other_processes():
    with start_worker_pool(2) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


def test_one_worker_needs_no_pool():
    assert start_worker_pool(1) is None


def test_pool_is_none_with_a_warning_when_there_are_no_semaphores(monkeypatch):
    def refuse(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", refuse)
    with pytest.warns(UserWarning, match=r"cannot start worker processes \(.*Function not implemented\)"):
        assert start_worker_pool(2) is None
