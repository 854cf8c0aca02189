"""Timed trials find the fastest candidate on a busy machine, are cached, and repeat if needed."""

import json

import pytest
import torch

from llm_scratch.hardware import trials
from llm_scratch.hardware.trials import (
    NEW_TOKENS,
    cached_timings,
    clear_timings,
    text_seconds,
    time_interleaved,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and nothing in memory."""
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trials, "_answers", {})
    return tmp_path / "cache" / "trials"


@pytest.fixture
def clock(monkeypatch):
    """Replace the trial's clock by one that only candidates advance."""
    now = [0.0]
    monkeypatch.setattr(trials, "LONG_CALL_SECONDS", 100)

    def seconds(work):
        before = now[0]
        work()
        return now[0] - before

    monkeypatch.setattr(trials, "thread_seconds", seconds)
    return now


def takes(clock, *seconds):
    """A candidate whose calls take these seconds, and then always the last of them."""
    left = list(seconds)

    def run():
        clock[0] += left.pop(0) if len(left) > 1 else left[0]

    return [run]


def measure(calls, answer):
    def run():
        calls.append(1)
        return dict(answer)

    return run


def test_trial_is_cached_across_processes(monkeypatch):
    calls = []
    for _ in range(2):
        assert cached_timings("a question", ["a"], ["width 8"], measure(calls, {"a": 1.5})) == {
            "a": 1.5
        }
    monkeypatch.setattr(trials, "_answers", {})  # as in another process
    assert cached_timings("a question", ["a"], ["width 8"], measure(calls, {"a": 9.0})) == {
        "a": 1.5
    }
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["question", "candidates", "depends_on", "processor", "torch"])
def test_trial_is_repeated_when_a_dependency_changes(change, monkeypatch):
    calls = []
    cached_timings("a question", ["a"], ["width 8"], measure(calls, {"a": 1.0}))
    question, candidates, depends_on = "a question", ["a"], ["width 8"]
    if change == "question":
        question = "another"
    elif change == "candidates":
        candidates = ["a", "b"]
    elif change == "depends_on":
        depends_on = ["width 16"]
    elif change == "processor":
        monkeypatch.setattr(trials, "processor", lambda: "another")
    else:
        monkeypatch.setattr(torch, "__version__", "9.9")
    assert cached_timings(question, candidates, depends_on, measure(calls, {"a": 2.0})) == {
        "a": 2.0
    }
    assert len(calls) == 2


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"key": 1, "seconds": {"a": "x"}}', '{"seconds": {"a": 1}}']
)
def test_damaged_trial_cache_is_measured_again(text, cache, monkeypatch):
    calls = []
    cached_timings("a question", ["a"], [], measure(calls, {"a": 1.0}))
    (path,) = cache.iterdir()
    path.write_text(text)
    monkeypatch.setattr(trials, "_answers", {})
    assert cached_timings("a question", ["a"], [], measure(calls, {"a": 2.0})) == {"a": 2.0}
    assert json.loads(path.read_text())["seconds"] == {"a": 2.0}


@pytest.mark.parametrize(
    "seconds",
    [
        '{"another": 1}',
        '{"a": 0}',
        '{"a": -1}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1, "b": 1}',
    ],
)
def test_stored_trial_with_impossible_times_is_measured_again(seconds, cache, monkeypatch):
    """They would end each later command by an unexpected error, or choose a wrong kernel."""
    cached_timings("a question", ["a"], [], lambda: {"a": 1.0})
    (path,) = cache.iterdir()
    key = json.dumps(json.loads(path.read_text())["key"])
    path.write_text(f'{{"key": {key}, "seconds": {seconds}}}')
    monkeypatch.setattr(trials, "_answers", {})
    assert cached_timings("a question", ["a"], [], lambda: {"a": 2.0}) == {"a": 2.0}


def test_trial_works_when_the_cache_is_not_writable(cache):
    cache.parent.parent.joinpath("cache").write_text("a file where the folder should be")
    assert cached_timings("a question", ["a"], [], lambda: {"a": 1.0}) == {"a": 1.0}


def test_clear_timings_causes_a_new_measurement(cache):
    calls = []
    cached_timings("a question", ["a"], [], measure(calls, {"a": 1.0}))
    clear_timings()
    assert list(cache.iterdir()) == []
    assert cached_timings("a question", ["a"], [], measure(calls, {"a": 2.0})) == {"a": 2.0}


def test_trial_without_a_working_candidate_is_not_stored(cache):
    assert cached_timings("a question", ["a"], [], lambda: {"a": float("inf")}) == {
        "a": float("inf")
    }
    assert not cache.exists()


def test_time_interleaved_takes_the_shortest_call(clock):
    candidates = {"a": takes(clock, 9, 3, 5, 2, 7, 4), "b": takes(clock, 9, 4)}
    assert time_interleaved(candidates) == {"a": 2, "b": 4}


def test_time_interleaved_continues_after_a_slow_call(clock):
    """A busy machine makes single calls many times longer."""
    assert time_interleaved({"a": takes(clock, 9, 90, 90, 1), "b": takes(clock, 2)}) == {
        "a": 1,
        "b": 2,
    }


def test_time_interleaved_calls_a_long_candidate_twice_in_all(clock):
    """On a slow processor all repetitions took more than half an hour."""
    candidates = {"long": takes(clock, 105, 101) * 3, "short": takes(clock, 99) * 3}
    assert time_interleaved(candidates) == {"long": 101, "short": 99}
    n_short = 1 + 3 * (1 + trials.N_ROUNDS)
    assert clock[0] == 105 + 101 + 99 * n_short


@pytest.mark.parametrize("seconds", [(900, 1), (1, 900, 1)], ids=["preparations", "a busy moment"])
def test_time_interleaved_repeats_a_candidate_with_one_long_call(seconds, clock):
    """The first call of a compiled candidate compiles it."""
    assert time_interleaved({"a": takes(clock, *seconds)}) == {"a": 1}
    assert clock[0] == sum(seconds) + 2 + trials.N_ROUNDS - len(seconds)


def test_time_interleaved_is_infinite_for_a_call_that_raises(clock):
    def fails():
        raise RuntimeError("not on this processor")

    assert time_interleaved({"a": [fails], "b": takes(clock, 1)}) == {"a": float("inf"), "b": 1}


def test_time_interleaved_restores_the_number_of_threads(clock):
    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        time_interleaved({"a": [lambda: seen.append(torch.get_num_threads())]})
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_text_seconds_use_the_threads_of_the_model(clock):
    """Some libraries multiply a single row on one thread only, others share it."""
    seen, before = [], torch.get_num_threads()
    calls = {"a": [lambda: seen.append(torch.get_num_threads())]}
    torch.set_num_threads(2)
    try:
        text_seconds(calls, calls)
        assert set(seen) == {2}
    finally:
        torch.set_num_threads(before)


def test_text_seconds_add_prompt_and_new_tokens(clock):
    assert text_seconds({"a": takes(clock, 2)}, {"a": takes(clock, 5)}) == {"a": 2 * NEW_TOKENS + 5}
