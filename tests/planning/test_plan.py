"""A plan adds up its estimates, proposes what fits, and can be compared with the run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.planning import plan as planning
from llm_scratch.planning.memory_estimate import MemoryEstimate
from llm_scratch.planning.plan import (
    HEAP_OVERHEAD,
    LIBRARIES,
    make_plan,
    measured,
    read_plan,
    worth_planning,
)
from llm_scratch.planning.step_timing import StepTiming
from llm_scratch.run_directory import open_run
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.loop import train
from llm_scratch.training.precision import Precision

CPU, GIB = torch.device("cpu"), 2**30
TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
MODEL = GPTConfig(vocab_size=20, context_length=8, emb_dim=12, n_heads=3, n_layers=2)


def settings(**train):
    often = {
        "steps": 20,
        "batch_size": 4,
        "eval_every": 10,
        "eval_batches": 2,
        "sample_every": 5,
        "log_every": 1,
        "prompt": "the cat",
    }
    return RunConfig(
        MODEL, DataConfig(source="stories", tokenizer="chars"), TrainConfig(**often | train)
    )


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:480], ids[480:], len(ids) - 480)


@pytest.fixture
def machine(monkeypatch):
    """Simulate a machine with 1 GFLOP/s, 100 MB/s, 1 GiB used and 3 GiB free.

    A step takes 2 s and an evaluation batch 0.5 s.
    """
    stubs = {
        "matmul_flops": 1e9,
        "read_bandwidth": 1e8,
        "resident_memory": GIB,
        "free_memory": 3 * GIB,
        "estimate_step_time": StepTiming(2.0, 0.5, "its own"),
    }
    for name, value in stubs.items():
        monkeypatch.setattr(planning, name, lambda *args, value=value: value)
    return stubs


def test_plan_mfu_on_a_gpu_refers_to_the_bfloat16_rate(machine, corpus, monkeypatch):
    """Plans once divided by the float32 rate, a tenth of it: an MFU of several hundred percent."""
    tried = []
    monkeypatch.setattr(
        planning, "choose_precision", lambda *_: Precision("float32", "as requested")
    )
    monkeypatch.setattr(
        planning, "estimate_memory", lambda config, *_: MemoryEstimate(4, 4, 8, 0, 0, 0)
    )
    monkeypatch.setattr(
        planning, "matmul_flops", lambda _, dtype: {torch.float32: 1e9, torch.bfloat16: 1e10}[dtype]
    )
    monkeypatch.setattr(
        planning,
        "estimate_step_time",
        lambda *args: tried.append(args[2]) or machine["estimate_step_time"],
    )
    plan = make_plan(settings(), torch.device("cuda"), corpus)
    assert plan.mfu == pytest.approx(plan.flops_per_token * 16 / 1e10)
    assert plan.matrix_rate == 1e10
    assert tried == [1e9], "the time of a trial is that of its own products"


def test_plan_times_add_up(machine, corpus):
    plan = make_plan(settings(), CPU, corpus)
    assert plan.parameters == MODEL.n_params
    assert (plan.steps, plan.tokens_per_step, plan.tokens) == (20, 32, 640)
    assert plan.epochs == pytest.approx(640 / 480)
    assert plan.eval_seconds == 3 * (2 + 2) * 0.5, (
        "at steps 0, 10 and 20 two batches of either text"
    )
    assert plan.sample_seconds == pytest.approx(4 * 180 * 4 * MODEL.n_params / 1e8)
    assert plan.seconds == pytest.approx(20 * 2.0 + 6 + plan.sample_seconds)
    assert plan.mfu == pytest.approx(plan.flops_per_token * 16 / 1e9)
    assert plan.baseline_memory == GIB
    assert plan.peak_memory == pytest.approx(
        GIB + LIBRARIES["cpu"] + HEAP_OVERHEAD["cpu"] * plan.memory.peak
    )
    assert plan.free_memory == 4 * GIB, "memory that the process already holds is not counted twice"
    assert plan.missing_memory == 0
    assert plan.micro_batches == 1
    assert plan.precision == "float32"


@pytest.mark.parametrize(
    ("wanted", "save_every", "copies"),
    [("yes", 5, 1), ("yes", 20, 0), ("no", 5, 0), ("auto", 5, 0)],
)
def test_plan_counts_the_copy_of_async_saves(wanted, save_every, copies, machine, corpus):
    config = settings(save_every=save_every, eval_every=20)
    without = make_plan(config, CPU, corpus)
    plan = make_plan(replace(config, system=SystemConfig(async_save=wanted)), CPU, corpus)
    assert plan.peak_memory - without.peak_memory == copies * (
        plan.memory.weights + plan.memory.optimizer
    )


def test_plan_counts_the_steps_of_epochs(machine, corpus):
    assert make_plan(settings(epochs=3), CPU, corpus).steps == 3 * 14
    assert make_plan(settings(epochs=3), CPU).epochs is None


def test_plan_counts_targets_of_document_rows(machine):
    tokenizer = TOKENIZERS["chars"](["abc. "])
    end = tokenizer.eot_token
    ids = np.array([end, 0, 1, end, 0, 1, end, 0, 1, end, 0, 1, end, 0, 1, end], dtype=np.int32)
    config = settings()
    plan = make_plan(
        replace(config, data=replace(config.data, order="documents")),
        CPU,
        Corpus(tokenizer, ids, ids, 30),
    )
    assert plan.tokens_per_step == 4 * 3, "a row is a document of two letters and its end"


LARGE = RunConfig(
    GPTConfig(vocab_size=1000, context_length=512, emb_dim=768, n_heads=12, n_layers=3),
    DataConfig(),
    TrainConfig(batch_size=32),
    SystemConfig(precision="float32"),
)


def test_plan_proposes_micro_batches_when_memory_is_short(machine):
    plan = make_plan(LARGE, CPU)
    assert plan.missing_memory == plan.peak_memory - plan.free_memory > GIB
    assert plan.micro_batches > 1
    assert not plan.activation_checkpointing
    assert plan.fitting_peak <= 4 * GIB
    better = make_plan(
        replace(LARGE, train=replace(LARGE.train, micro_batches=plan.micro_batches)), CPU
    )
    assert (better.peak_memory, better.missing_memory, better.micro_batches) == (
        plan.fitting_peak,
        0,
        plan.micro_batches,
    )


def test_plan_reports_when_not_even_one_row_fits(machine, monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: 2**20)
    plan = make_plan(replace(LARGE, train=replace(LARGE.train, batch_size=2)), CPU)
    assert plan.micro_batches is None
    assert plan.free_memory < plan.fitting_peak < plan.peak_memory


def test_plan_of_a_run_that_fits_traces_its_memory_once(machine, monkeypatch):
    traced, estimate = [], planning.estimate_memory

    def noted(*args):
        traced.append(args)
        return estimate(*args)

    monkeypatch.setattr(planning, "estimate_memory", noted)
    make_plan(settings(), CPU)
    assert len(traced) == 1


def test_plan_fits_when_free_memory_is_unknown(machine, monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda device: None)
    plan = make_plan(LARGE, CPU)
    assert (plan.free_memory, plan.missing_memory, plan.micro_batches) == (None, 0, 1)


def test_plan_round_trips_through_the_run_directory(machine, tmp_path):
    plan = make_plan(settings(), CPU)
    plan.save(tmp_path)
    assert read_plan(tmp_path) == plan
    older = asdict(plan)
    for new, old in (
        ("epochs", "passes"),
        ("baseline_memory", "before"),
        ("eval_seconds", "look_seconds"),
    ):
        older[old] = older.pop(new)
    (tmp_path / "plan.json").write_text(json.dumps(older))
    assert read_plan(tmp_path) == plan
    for torn in ("", "{}", '{"memory": 3}', "[]"):
        (tmp_path / "plan.json").write_text(torn)
        assert read_plan(tmp_path) is None
    assert read_plan(tmp_path / "nowhere") is None


def test_short_run_is_not_worth_planning(monkeypatch, corpus):
    monkeypatch.setattr(planning, "matmul_flops", lambda *_: 1e9)
    assert not worth_planning(settings(), corpus, CPU)
    assert worth_planning(settings(steps=10**6), corpus, CPU)
    assert worth_planning(settings(epochs=10**6), corpus, CPU)


def test_measured_plan_reads_the_metrics():
    rows = [
        {"step": i, "seconds": s, "mfu": 0.1 * i, "peak_memory_bytes": 100 * i, "elapsed": 10.0 * i}
        for i, s in ((1, 9.0), (2, 1.0), (3, 2.0))
    ]
    assert measured(rows) == {"seconds_per_step": 2.0, "peak_memory": 300, "seconds": 30.0}
    assert measured([]) == measured([{"step": 0, "val_loss": 3.0}]) == {}


def test_plan_of_a_real_run_is_comparable(corpus, tmp_path, monkeypatch):
    plan = make_plan(settings(), CPU, corpus, seconds=0.1)
    train(settings(), tmp_path, corpus=corpus)
    took = measured(open_run(tmp_path).metrics)
    assert took.keys() == {"seconds_per_step", "peak_memory", "seconds"}
    assert plan.baseline_memory <= plan.peak_memory < 4 * took["peak_memory"]
