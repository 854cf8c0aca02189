"""N1 to N5: non-finite values, loss spikes and rollbacks.

A non-finite value never reaches the weights, a spike is skipped, a diverged run rolls back.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.errors import CHECKPOINT, DIVERGED, UserError
from llm_scratch.model.gpt import GPTModel
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage import checkpoint
from llm_scratch.storage.checkpoint import load_latest
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training import fault_injection, loop
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.recovery import MAX_CONSECUTIVE_BAD, MAX_ROLLBACKS, SpikeDetector
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS
from llm_scratch.training.state import optimizer_tensors
from llm_scratch.training.step import train_step

TEXT = "the hen sat on the red mat, and the fox ran off.\nno hen was seen on the mat since.\n" * 30
BAD = [("step", kind) for kind in ("nan", "inf", "-inf")] + [
    ("gradient", kind) for kind in ("nan", "inf", "-inf")
]
WORSE = 1.02
train = partial(loop.train, inject_fault=fault_injection.inject_requested)


def settings(**changes) -> RunConfig:
    """A run of a second or two."""
    often = {
        "batch_size": 4,
        "lr": 5e-3,
        "eval_every": 50,
        "save_every": 10,
        "sample_every": 0,
        "log_every": 1,
        "eval_batches": 4,
    }
    return RunConfig(
        GPTConfig(
            vocab_size=24,
            context_length=16,
            emb_dim=16,
            n_heads=2,
            n_layers=1,
            drop_rate=0.1,
            init="gpt2",
        ),
        DataConfig(source="stories", tokenizer="chars"),
        TrainConfig(**{"steps": 60} | often | changes),
    )


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:2000], ids[2000:], len(ids) - 2000)


@pytest.fixture(autouse=True, scope="module")
def _fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        yield


class Listener(Callback):
    """Record warnings, and the batches of each step."""

    def __init__(self):
        self.warnings, self.batches = [], []

    def warn(self, message):
        self.warnings.append(message)

    def started(self, run, resumed):
        load = run.data.train.batch

        def noted(step, *ranks):
            self.batches += [step] if ranks else []  # evaluation takes whole batches
            return load(step, *ranks)

        run.data.train.batch = noted


def order(monkeypatch, *orders):
    monkeypatch.setenv(fault_injection.VARIABLE, ",".join(orders))


def rows(run, key):
    return {row["step"]: row[key] for row in iter_metrics(run / "metrics.jsonl") if key in row}


# N1


@contextmanager
def hit_somewhere(model, number, rng):
    """Replace one random value of one gradient inside the block."""
    parameters = list(model.parameters())
    hit = parameters[rng.integers(len(parameters))]
    place = int(rng.integers(hit.numel()))

    def spoil(weight):
        weight.grad.view(-1)[place] = number

    hook = hit.register_post_accumulate_grad_hook(spoil)
    yield
    hook.remove()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_n1_non_finite_loss_or_gradient_changes_no_weight(optimizer, monkeypatch, measured):
    """Inject a hundred faults into losses and gradients; weights and optimizer keep their bits."""
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
    model_with_loss = ModelWithLoss(model)
    mover = OPTIMIZERS[optimizer](model, TrainConfig())
    rng = np.random.default_rng(0)
    detector, tries = SpikeDetector(6.0), 100
    caught = 0
    for number in range(1, tries + 1):
        batch = [(torch.randint(0, 20, (4, 8)), torch.randint(0, 20, (4, 8))) for _ in range(2)]
        assert train_step(model_with_loss, mover, batch, 1.0, detector.accept).good
        before = [
            t.clone()
            for t in (
                *model.parameters(),
                *optimizer_tensors(model, mover).values(),
                detector.losses,
            )
        ]
        place, kind = BAD[number % len(BAD)]
        if place == "step":
            order(monkeypatch, f"step:{number}:{kind}")
            with fault_injection.inject_requested(number, model_with_loss):
                result = train_step(model_with_loss, mover, batch, 1.0, detector.accept)
        else:
            with hit_somewhere(model, float(kind), rng):
                result = train_step(model_with_loss, mover, batch, 1.0, detector.accept)
        assert not result.good
        after = (*model.parameters(), *optimizer_tensors(model, mover).values(), detector.losses)
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        caught += 1
    measured(
        "N1",
        f"{optimizer}: {caught} of {tries} detected, 0 updates",
        "detected in the same step, 0 updates, 100 of 100",
    )


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_n1_non_finite_value_on_one_rank_skips_the_step_on_all(count, ranks, tmp_path, measured):
    """Inject each fault on rank 0 and on rank 1; the run equals one process with these faults."""
    hit = {4 + 3 * number: (*BAD[number % 6], number // 6 % 2) for number in range(count)}
    config = settings(steps=3 * count + 8, micro_batches=2, save_every=40).with_model(drop_rate=0.0)
    config = replace(
        config,
        data=replace(config.data, source="stories:40"),
        model=replace(config.model, vocab_size=60),
    )
    fault = ",".join(f"{place}:{step}:{kind}@{rank}" for step, (place, kind, rank) in hit.items())
    alone = ",".join(f"{place}:{step}:{kind}" for step, (place, kind, _) in hit.items())
    reports = ranks.train(2, config, tmp_path / "two", fault=fault) + ranks.train(
        1, config, tmp_path / "one", fault=alone
    )
    assert [one["trace"] for one in reports if "trace" in one] == []
    assert (
        list(rows(tmp_path / "two", "skipped"))
        == list(rows(tmp_path / "one", "skipped"))
        == list(hit)
    )
    two, one = rows(tmp_path / "two", "loss"), rows(tmp_path / "one", "loss")
    assert two.keys() == one.keys()
    assert all(abs(two[step] - one[step]) <= 1e-5 * one[step] for step in one)
    measured(
        "N1",
        f"on one of two processes: {len(hit)} of {count}, 0 updates on both",
        "on one rank: detected in the same step, 100 of 100 (nightly)",
    )


# N2


def test_n2_spike_is_skipped_counted_and_logged(corpus, tmp_path, monkeypatch, measured):
    order(monkeypatch, "step:100:spike", "step:150:spike", "step:160:spike")
    listener = Listener()
    run = train(settings(steps=170), tmp_path, corpus=corpus, callbacks=[listener])
    skipped = rows(tmp_path, "skipped")
    assert skipped == {
        150: 1,
        160: 2,
    }, "and the one at step 100 is before there are 128 losses to compare with"
    assert run.recovery.counts.skipped == 2
    assert [w.partition(", ")[0] for w in listener.warnings] == [
        f"step {s} was skipped: its loss" for s in (150, 160)
    ]
    usual = [loss for step, loss in rows(tmp_path, "loss").items() if 150 > step > 150 - 128]
    assert rows(tmp_path, "skipped_loss")[150] > np.mean(usual) + 6 * np.std(usual)
    assert sorted(rows(tmp_path, "loss").keys() | skipped.keys()) == list(range(1, 171))
    measured(
        "N2",
        "2 of 2 spikes skipped, counted, logged; 0 false alarms in 168 steps",
        "spike > mean + 6 sigma over 128 steps: skipped, counted, logged",
    )


def test_n2_no_false_alarm_while_the_loss_falls(corpus, tmp_path):
    run = train(
        settings(steps=300, lr=1e-2, save_every=300, eval_every=300), tmp_path, corpus=corpus
    )
    assert run.recovery.counts.skipped == 0
    assert rows(tmp_path, "loss")[300] < 0.5 * rows(tmp_path, "loss")[1]


def test_n2_can_be_turned_off(corpus, tmp_path, monkeypatch):
    order(monkeypatch, "step:140:spike")
    assert (
        train(
            settings(steps=145, spike_sigmas=0.0), tmp_path, corpus=corpus
        ).recovery.counts.skipped
        == 0
    )


# N3


def three(step):
    return [f"step:{step + i}:nan" for i in range(MAX_CONSECUTIVE_BAD)]


def test_n3_three_bad_steps_cause_a_rollback_past_the_text(corpus, tmp_path, monkeypatch, measured):
    order(monkeypatch, *three(23))
    listener, config = Listener(), settings(rollback_lr=0.5, schedule="constant")
    run = train(config, tmp_path, corpus=corpus, callbacks=[listener])
    assert listener.batches == [
        *range(25),
        *range(25, 65),
    ], "again from step 20, with text that was not read yet"
    assert (run.step, run.recovery.counts.rollbacks, run.recovery.counts.skipped_batches) == (
        60,
        1,
        5,
    )
    assert listener.warnings[-1].startswith("steps 23 to 25 were bad")
    assert "rolled back to step 20, skipping 5 batches (rollback 1 of 3)" in listener.warnings[-1]
    rates = rows(tmp_path, "lr")
    assert {rates[step] for step in range(1, 21)} == {5e-3}
    assert {rates[step] for step in range(22, 61)} == {2.5e-3}
    assert rows(tmp_path, "rollbacks") == {21: 1}
    assert rows(tmp_path, "skipped") == {}, "rows after step 20 were removed"
    assert list(rows(tmp_path, "loss")) == list(range(1, 61))
    measured(
        "N3",
        "rolled back to the last checkpoint, 5 batches skipped, learning rate halved",
        "3 bad steps in a row: rollback to the last good checkpoint, skip that data, rate x 0.5",
    )


def test_n3_training_ends_with_advice_after_three_rollbacks(
    corpus, tmp_path, monkeypatch, measured
):
    order(monkeypatch, *(MAX_ROLLBACKS + 1) * three(13))
    listener = Listener()
    with pytest.raises(
        UserError,
        match=r"steps 13 to 15 were bad .* rolled back 3 times already: .* Try a lower --train\.lr",
    ) as error:
        train(settings(), tmp_path, corpus=corpus, callbacks=[listener])
    assert error.value.code == DIVERGED
    assert len([w for w in listener.warnings if "rolled back to step 10" in w]) == MAX_ROLLBACKS
    assert load_latest(tmp_path, pytest.fail).state["step"] == 10
    measured(
        "N3",
        f"exit code {error.value.code} with advice after {MAX_ROLLBACKS} rollbacks",
        "at most 3 rollbacks, then exit 5 with advice",
    )


def test_n3_rollback_fails_without_a_checkpoint(corpus, tmp_path, monkeypatch):
    order(monkeypatch, *three(3))
    with pytest.raises(
        UserError, match=r"steps 3 to 5 were bad .* there is no checkpoint to roll back to"
    ) as error:
        train(settings(), tmp_path, corpus=corpus)
    assert error.value.code == DIVERGED


def test_n3_no_checkpoint_is_written_while_steps_are_bad(corpus, tmp_path, monkeypatch):
    """Skip a save that is due among bad steps, since the weights may already be bad."""
    order(monkeypatch, *three(19))
    run = train(settings(steps=30), tmp_path, corpus=corpus)
    assert run.recovery.counts.skipped_batches == 21 - 10


@pytest.mark.parametrize("stop_at", [15, 25, 35])
def test_n3_run_after_a_rollback_resumes_with_the_same_bits(corpus, tmp_path, monkeypatch, stop_at):
    config, fall = settings(steps=45), (*three(23), "step:31:inf")

    class Stop(Callback):
        def step(self, run, row):
            if run.step == stop_at and run.recovery.counts.rollbacks == (stop_at > 22):
                raise MemoryError("the plug is pulled")

    order(monkeypatch, *fall)
    train(config, tmp_path / "whole", corpus=corpus)
    order(monkeypatch, *fall)
    with pytest.raises(MemoryError):
        train(config, tmp_path / "run", corpus=corpus, callbacks=[Stop()])
    order(
        monkeypatch, *(fall if stop_at < 30 else fall[-1:])
    )  # the steps after the checkpoint are repeated
    train(config, tmp_path / "run", corpus=corpus)
    a, b = (load_latest(tmp_path / run, pytest.fail) for run in ("whole", "run"))
    assert a.state == b.state
    assert a.state["recovery"]["rollbacks"] == 1
    assert all(t.equal(b.weights[name]) for name, t in a.weights.items())
    one, two = (
        [
            {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
            for row in iter_metrics(tmp_path / run / "metrics.jsonl")
        ]
        for run in ("whole", "run")
    )
    assert one == two


# N4, N5


def test_n4_one_fault_barely_changes_the_final_loss(corpus, tmp_path, monkeypatch, measured):
    config = settings(steps=160, lr=1e-2, save_every=80, eval_every=160, eval_batches=None)
    clean = train(config, tmp_path / "clean", corpus=corpus).best
    worst = 0.0
    for place, kind in (("step", "nan"), ("step", "spike"), ("gradient", "inf")):
        order(monkeypatch, f"{place}:140:{kind}")
        worst = max(worst, train(config, tmp_path / f"{place}-{kind}", corpus=corpus).best / clean)
    assert worst <= WORSE
    measured(
        "N4",
        f"at most {max(0.0, worst - 1):.2%} worse",
        "final validation loss after one fault at most 2 % worse than without",
    )


@pytest.mark.parametrize(
    "evaluate_every", [10, 20]
)  # step 30 would be the best, or only the latest
@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_n5_checkpoint_with_nan_is_never_written(corpus, tmp_path, where, evaluate_every, measured):
    class Poison(Callback):
        def step(self, run, row):
            if run.step == 30:
                weight = run.model.tok_emb.weight
                (weight.data if where == "weights" else run.optimizer.state[weight]["exp_avg"])[
                    3, 3
                ] = math.nan

    with pytest.raises(
        UserError, match=r"tok_emb\.weight.* has non-finite values after step 30"
    ) as error:
        train(settings(eval_every=evaluate_every), tmp_path, corpus=corpus, callbacks=[Poison()])
    assert error.value.code == DIVERGED
    assert [folder.name for folder in checkpoint.list_checkpoints(tmp_path)] == [
        "step-00000020",
        "step-00000010",
    ]
    assert (tmp_path / "ckpt" / "latest").read_text() == "step-00000020\n"
    assert (tmp_path / "ckpt" / "best").read_text() == "step-00000020\n"
    measured(
        "N5",
        f"NaN in the {where}: not written, `latest` and `best` unchanged",
        "never written as latest or best",
    )


@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_n5_checkpoint_with_nan_is_refused(corpus, tmp_path, where, measured):
    train(settings(steps=20), tmp_path, corpus=corpus)
    good = load_latest(tmp_path, pytest.fail)
    bad = {name: t.clone() for name, t in getattr(good, where).items()}
    next(t for t in bad.values() if t.ndim)[0] = math.nan
    parts = {"weights": good.weights, "optimizer": good.optimizer} | {where: bad}
    checkpoint.save(
        tmp_path,
        30,
        good.config,
        parts["weights"],
        parts["optimizer"],
        good.state | {"step": 30},
        lambda folder: None,
        best=True,
    )
    warnings = []
    found = load_latest(tmp_path, warnings.append, prefer="best")
    assert found.state["step"] == 20
    assert "not finite" in warnings[0]
    for folder in checkpoint.list_checkpoints(tmp_path):
        (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="all checkpoints") as error:
        load_latest(tmp_path, warnings.append)
    assert error.value.code == CHECKPOINT
    measured(
        "N5",
        f"NaN in the {where}: refused, the older one loaded; exit code 4 if there is no other",
        "refused on load",
    )
