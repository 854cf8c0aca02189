"""`plan`: what fits and what does not, comparison with a run, errors."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from llm_scratch.errors import RESOURCES
from llm_scratch.planning import plan as planning
from llm_scratch.planning.memory_estimate import MemoryEstimate
from llm_scratch.planning.plan import read_plan
from llm_scratch.planning.step_timing import StepTiming

GIB = 2**30


@pytest.fixture
def small(tiny):
    """The tiny run's words, for plan."""
    return ["plan", *tiny[1:]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, request):
    """Stub the trial, which takes three seconds for any run; one test runs a real one."""
    monkeypatch.setattr(planning.LoadMeter, "processors", lambda self: None)
    if "table_has_every_row" not in request.node.name:
        monkeypatch.setattr(
            planning, "estimate_step_time", lambda *args: StepTiming(0.5, 0.1, "nothing")
        )


@pytest.fixture
def large(monkeypatch):
    """A machine with 3 GiB free; the model needs 1 GiB and another for every two rows."""
    monkeypatch.setattr(planning, "free_memory", lambda device: 3 * GIB)
    monkeypatch.setattr(planning, "resident_memory", lambda: GIB // 4)

    def rehearse(config, *how):
        rows = config.train.batch_size // config.train.micro_batches
        return MemoryEstimate(
            GIB // 4,
            GIB // 4,
            GIB // 2,
            rows * GIB // (8 if config.system.activation_checkpointing else 2),
            0,
            0,
        )

    monkeypatch.setattr(planning, "estimate_memory", rehearse)


def test_plan_table_has_every_row(llm, small):
    result = llm(*small)
    assert result.code == 0
    words = " ".join(result.out.split())
    for what in (
        "machine cpu,",
        "FLOP/s",
        "model",
        "parameters, 1 layer of 16",
        "a token,",
        "32 a step, 128 in 4 steps",
        "weights",
        "MFU",
    ):
        assert what in words, what
    assert "epochs" in words
    assert "It fits: batch_size 2 in one micro-batch." in words
    assert max(map(len, result.out.splitlines())) <= 80


def test_plan_json_has_the_documented_keys(llm, small):
    plan = json.loads(llm(*small, "--json").out)
    assert (plan["steps"], plan["tokens_per_step"], plan["missing_memory_bytes"]) == (4, 32, 0)
    assert plan["seconds"] > 0
    assert plan["peak_memory_bytes"] > plan["weights_bytes"] > 0


def test_plan_that_does_not_fit_names_settings_that_do(llm, small, large):
    words = " ".join(llm(*small, "--train.batch-size", "16").out.split())
    assert "It does not fit: " in words
    assert " too much. --train.micro-batches 8 takes " in words
    words = " ".join(
        llm(*small, "--train.batch-size", "16", "--train.micro-batches", "16").out.split()
    )
    assert "It fits: batch_size 16 in 16 micro-batches." in words


def test_plan_suggests_activation_checkpointing_when_micro_batches_do_not_fit(
    llm, small, large, monkeypatch
):
    monkeypatch.setattr(planning, "free_memory", lambda device: int(1.55 * GIB))
    words = " ".join(llm(*small).out.split())
    assert "--train.micro-batches 2 --system.activation-checkpointing takes " in words
    assert "with the same result, a third slower." in words


def test_plan_that_never_fits_states_the_reason(llm, small, large, monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: GIB // 8)
    words = " ".join(llm(*small).out.split())
    assert "Even one row at a time with activation checkpointing takes" in words
    assert (
        "weights, gradients and optimizer alone are too large; try a smaller --model.emb-dim or"
        " --model.n-layers" in words
    )


def test_plan_works_without_the_text(llm, small):
    small[small.index("--data.source") + 1] = "file:nowhere.txt"
    result = llm(*small)
    assert result.code == 0
    assert "planned without the text" in result.err
    assert " epochs" not in result.out


def test_plan_of_a_short_run_is_made_when_compared(llm, trained):
    words = " ".join(llm("plan", trained).out.split())
    for what in (
        "predicted measured off by",
        "memory at most",
        "a step",
        "the whole run",
        "as short runs do",
    ):
        assert what in words, what


def test_long_run_saves_its_plan(llm, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "worth_planning", lambda *args: True)
    out = tmp_path / "long"
    output = " ".join(llm(*tiny, "--out", out).out.split())
    assert " plan: " in output
    assert re.search(
        r"Plan and result: \S+ \wi?B of memory planned, \S+ \wi?B measured; \S+ s a step planned,"
        r" \S+ measured; more: llm-scratch plan",
        output,
    ), output
    plan = read_plan(out)
    assert plan.steps == 4
    replace(plan, seconds_per_step=1e6).save(out)
    words = " ".join(llm("plan", out).out.split())
    assert "1e+06 s" in words
    assert "made now" not in words
    assert "\nplan: " not in llm(*tiny, "--out", out).out, "a resumed run is not planned again"
    plan = json.loads(llm("plan", out, "--json").out)
    assert plan["predicted"]["seconds_per_step"] == 1e6
    assert plan["measured"].keys() == {"peak_memory_bytes", "seconds_per_step", "seconds"}
    assert (plan["steps"], plan["step"]) == (4, 4)


def test_train_rejects_a_run_that_does_not_fit_without_ignore_memory(
    llm, tiny, tmp_path, large, monkeypatch
):
    monkeypatch.setattr(planning, "worth_planning", lambda *args: True)
    words = [*tiny, "--train.batch-size", "16", "--out", tmp_path / "run"]
    result = llm(*words)
    assert result.code == RESOURCES
    assert result.err.startswith("llm-scratch: memory: It does not fit: ")
    assert "--train.micro-batches 8 takes" in result.err
    assert "Or start it anyway with --ignore-memory" in result.err
    assert not (tmp_path / "run").exists()
    result = llm(*words, "--ignore-memory")
    assert result.code == 0, result.err
    assert "warning: It does not fit" in " ".join(result.out.split())


def test_train_rejects_a_batch_of_a_million_rows_before_reading_the_text(
    llm, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("llm_scratch.planning.memory_check.free_memory", lambda device: 2**28)
    result = llm(*tiny, "--train.batch-size", "1000000", "--out", tmp_path / "run")
    assert (result.code, result.err.count("\n")) == (RESOURCES, 1)
    assert "use a smaller --train.batch-size" in result.err
    assert "text:" not in result.out
    assert not (tmp_path / "run").exists()


def test_plan_errors_name_the_problem(llm, tmp_path):
    assert "PRESET or RUN is missing" in llm("plan").err
    assert "'quickstrat' is neither a preset" in llm("plan", "quickstrat").err
    (tmp_path / "folder").mkdir()
    assert "folder: not a run directory" in llm("plan", "folder").err
    (tmp_path / "folder" / "config.yaml").write_text("train: {stepz: 3}")
    assert "unknown setting 'train.stepz'" in llm("plan", "folder").err
    assert llm("plan", "quickstart", "--train.lrr", "1").err.startswith(
        "llm-scratch: unknown setting"
    )


@pytest.mark.parametrize(
    ("others", "warning"),
    [
        (None, None),
        (0.1, None),
        (
            1.0,
            (
                "warning: other programs use 1.0 of 2 processors, so the time is uncertain;"
                " without them about 1 s"
            ),
        ),
        (1.98, "without them about 0.2 s"),
    ],
)
def test_plan_warns_of_the_load_of_other_programs(
    others, warning, llm, small, monkeypatch, tmp_path
):
    monkeypatch.setattr(planning.LoadMeter, "processors", lambda self: others)
    monkeypatch.setattr(planning.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(
        planning, "estimate_step_time", lambda *args: StepTiming(0.5, 0.0, "nothing")
    )
    monkeypatch.setattr(planning, "SAMPLE_TOKENS", 0)
    monkeypatch.setattr(planning, "worth_planning", lambda *args: True)
    train = ["train", *small[1:], "--out", tmp_path / "run"]
    for words in (small, train):
        output = " ".join(llm(*words).out.split())
        assert (warning in output) if warning else ("other programs" not in output)
    assert read_plan(tmp_path / "run").other_load == others


def test_plan_formats_durations(llm, small, monkeypatch):
    monkeypatch.setattr(
        planning, "estimate_step_time", lambda *args: StepTiming(837 * 3600 / 4, 0.0, "nothing")
    )
    assert re.search(r"^time +35 days: 7.53e\+05 s a step", llm(*small).out, re.M)
