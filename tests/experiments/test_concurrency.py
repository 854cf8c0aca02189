"""The number of concurrent runs is the one measured as the fastest."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.config import dump_config, load_config
from llm_scratch.experiments import concurrency
from llm_scratch.experiments.concurrency import choose_concurrency, fastest, process_counts


@pytest.mark.parametrize(
    ("threads", "max_runs", "counts"),
    [
        (1, 9, [1]),
        (2, 9, [1, 2]),
        (6, 9, [1, 2, 4, 6]),
        (16, 99, [1, 2, 4, 8, 16]),
        (16, 3, [1, 2]),
    ],
)
def test_every_power_of_two_and_one_process_for_each_thread_are_tried(threads, max_runs, counts):
    assert process_counts(threads, max_runs) == counts


def test_fastest_number_is_chosen_and_the_reason_has_what_was_measured():
    tried = []

    def small_model(n, threads):
        tried.append((n, threads))
        return 10.0 * n**0.5

    chosen = fastest([1, 2, 4], 4, small_model)
    assert tried == [(1, 4), (2, 2), (4, 1)]
    assert chosen.at_once == 4
    assert chosen.reason == (
        "4 runs at a time; measured steps a second: 10 with 1 run of 4 threads,"
        " 14.1 with 2 runs of 2 threads, 20 with 4 runs of 1 thread"
    )


def test_concurrency_is_one_run_where_several_slow_each_other_down():
    chosen = fastest([1, 2], 2, lambda n, threads: 5.0 / n)
    assert chosen.at_once == 1
    assert chosen.reason.startswith("1 run at a time; measured steps a second: 5 with 1 run of 2")


def test_concurrency_is_one_process_per_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert choose_concurrency(tmp_path, (), "cuda", 99).at_once == 4
    assert choose_concurrency(tmp_path, (), "cuda", 3).at_once == 3
    assert choose_concurrency(tmp_path, (), "mps", 99).at_once == 1


OWN_MODEL = """
from llm_scratch.architectures import ARCHITECTURES, Architecture, GPTConfig
from llm_scratch.model.gpt import GPTModel

ARCHITECTURES["mine"] = Architecture(GPTConfig, GPTModel)
"""


def test_one_process_is_timed_with_all_threads_in_this_one(base, tmp_path, monkeypatch):
    monkeypatch.setattr(concurrency, "TIMING_SECONDS", 0.0)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    settings = base / "config.yaml"
    assert choose_concurrency(settings, (), "cpu", 9).at_once == 1
    assert concurrency._StepTimer(settings, ())(1, 1) > 0


@pytest.mark.slow
def test_processes_at_the_same_time_are_timed(base, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    settings = tmp_path / "settings.yaml"
    text = dump_config(load_config(base / "config.yaml"))
    settings.write_text(text.replace("architecture: gpt ", "architecture: mine "))
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    before = torch.initial_seed()
    chosen = choose_concurrency(settings, (str(tmp_path / "mine.py"),), "cpu", 9)
    assert chosen.at_once in (1, 2)
    assert "with 2 runs of 1 thread" in chosen.reason
    assert torch.initial_seed() == before
