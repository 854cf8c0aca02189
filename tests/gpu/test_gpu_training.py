"""Training on a GPU: the CPU's losses, no synchronization in a step, exact resuming, memory."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.errors import UserError
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.planning.memory_estimate import AllocationTracker, estimate_memory
from llm_scratch.run_directory import open_run
from llm_scratch.storage.checkpoint import load_latest
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.fault_injection import inject_requested
from llm_scratch.training.loop import train
from llm_scratch.training.model_with_loss import ModelWithLoss, prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.precision import Precision
from llm_scratch.training.run_data import text_data
from llm_scratch.training.state import unique_state_dict
from llm_scratch.training.trainer import Trainer, build_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # off on purpose
]

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
RARE = {"eval_every": 50, "save_every": 50, "sample_every": 0, "log_every": 1, "eval_batches": 2}
SIZE = {"vocab_size": 20, "context_length": 16, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
FLOAT32 = SystemConfig(precision="float32", compile="no")
CLOSE = 1e-3  # relative, of losses after a few steps on two devices


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:480], ids[480:], len(ids) - 480)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    torch.set_float32_matmul_precision("highest")  # no TF32


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Deterministic kernels only; an operation that has none is an error."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def settings(system=FLOAT32, drop_rate=0.0, **changes):
    cfg = {"steps": 50, "batch_size": 4, "micro_batches": 2, "warmup_steps": 2, "lr": 1e-2}
    model = GPTConfig(drop_rate=drop_rate, **SIZE)
    data = DataConfig(source="stories", tokenizer="chars")
    return RunConfig(model, data, TrainConfig(**cfg | RARE | changes), system)


def begin(device, corpus, folder, **changes) -> Trainer:
    config = settings(**changes)
    run = build_trainer(
        config,
        folder,
        text_data(config, corpus),
        Distributed(device=device),
        inject_fault=inject_requested,
    )
    run.model.train()
    return run


def step(run, until=0):
    """Complete one step and return its row."""
    _, row = run.train_step(until)
    return row


@contextmanager
def no_waiting(device):
    """Inside the block, an operation that waits for the GPU is an error."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def contents(run):
    """Copies of all weights and of the optimizer's tensors."""
    weights, optimizer = run.state_tensors(copies=True)
    return weights | optimizer


def unequal(ours, theirs):
    assert ours.keys() == theirs.keys()
    return [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gpu_steps_equal_the_cpus(device, corpus, tmp_path, optimizer):
    ours = begin(device, corpus, tmp_path, optimizer=optimizer)
    theirs = begin(torch.device("cpu"), corpus, tmp_path, optimizer=optimizer)
    for _ in range(6):
        row, want = step(ours), step(theirs)
        for key in ("loss", "grad_norm"):
            assert row[key] == pytest.approx(want[key], rel=CLOSE), (key, want["step"])
        assert row["tokens"] == want["tokens"]
    scores, wanted = ours.evaluate(), theirs.evaluate()
    for key in ("train_loss", "val_loss"):
        assert scores[key] == pytest.approx(wanted[key], rel=CLOSE)


def test_gpu_micro_batches_equal_one_batch(device, corpus, tmp_path):
    whole, parts = (begin(device, corpus, tmp_path, micro_batches=n) for n in (1, 4))
    for _ in range(3):
        assert step(whole)["loss"] == pytest.approx(step(parts)["loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step_never_waits_for_the_device(device, corpus, tmp_path, optimizer, precision):
    """Neither enqueuing a step nor reading the previous one synchronizes; it waits for an event."""
    system = SystemConfig(precision=precision, compile="no")
    run = begin(device, corpus, tmp_path, optimizer=optimizer, system=system, drop_rate=0.2)
    run.max_in_flight = 1
    for _ in range(3):  # the first steps load kernels and allocate
        run.train_step(until=50)
    with no_waiting(device):
        rows = [step(run, until=50) for _ in range(6)]
    assert [row["step"] for row in rows] == [4, 5, 6, 7, 8, 9]
    assert all(np.isfinite(row["loss"]) for row in rows)
    (launched,) = run.in_flight
    assert launched.result.loss.device.type == "cpu"


@pytest.mark.parametrize("fault", ["step:4:nan", "step:4:spike", "gradient:4:inf"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bad_step_changes_nothing(device, corpus, tmp_path, monkeypatch, optimizer, fault):
    run = begin(device, corpus, tmp_path, optimizer=optimizer)
    for _ in range(3):
        row = step(run)
    run.recovery.spikes.losses.fill_(row["loss"])  # as after many steps of this loss
    run.recovery.spikes.known.fill_(len(run.recovery.spikes.losses))
    before = contents(run)
    monkeypatch.setenv("LLM_SCRATCH_FAULT", fault)
    with no_waiting(device):
        row = step(run)
    assert row["skipped"] == 1
    assert unequal(contents(run), before) == []
    assert "loss" in step(run)
    assert unequal(contents(run), before) == list(before)


def test_checkpoint_of_the_device_loads_on_a_cpu(device, corpus, tmp_path):
    run = train(settings(steps=6), tmp_path, device=str(device), corpus=corpus)
    found = load_latest(tmp_path, pytest.fail)
    saved = found.weights | found.optimizer
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    assert unequal(saved, contents(run)) == []
    model, _ = load(tmp_path)
    ids = torch.tensor(corpus.val[None, :16].astype(np.int64))
    with torch.no_grad():
        want = run.model.eval()(ids.to(device)).cpu()
        torch.testing.assert_close(model(ids), want, rtol=1e-4, atol=1e-5)


class StopAt(Callback):
    """Sends SIGTERM after a step."""

    def __init__(self, step):
        self.at = step

    def step(self, run, row):
        if run.step == self.at:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_run_equals_an_uninterrupted_one(device, corpus, tmp_path, optimizer, precision):
    """Bit for bit: weights, optimizer and losses, with dropout and micro-batches."""
    system = SystemConfig(precision=precision, compile="no")
    config = settings(system, drop_rate=0.2, steps=12, save_every=4, optimizer=optimizer)
    run = partial(train, config.with_model(emb_dim=48), device=str(device), corpus=corpus)
    whole = contents(run(tmp_path / "whole"))
    with pytest.raises(UserError, match="stopped at step 7"):
        run(tmp_path / "resumed", callbacks=[StopAt(7)])
    torch.rand(3, device=device)  # random numbers drawn in between do not matter
    assert unequal(contents(run(tmp_path / "resumed")), whole) == []
    rows = (open_run(tmp_path / name).metrics for name in ("resumed", "whole"))
    ours, theirs = ([row["loss"] for row in each if "loss" in row] for each in rows)
    assert ours == theirs
    assert len(ours) == 12


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_step_holds_the_memory_that_was_planned(device, precision):
    gpu = device.type == "cuda"
    model = GPTConfig(
        vocab_size=8192 if gpu else 64,
        context_length=256 if gpu else 32,
        emb_dim=512 if gpu else 32,
        n_heads=8 if gpu else 2,
        n_layers=4,
    )
    config = RunConfig(model, train=TrainConfig(batch_size=16))
    chosen = Precision(precision, "as requested")
    planned = estimate_memory(config, device, chosen).peak
    ids = torch.zeros(16, model.context_length, dtype=torch.long, device=device)  # [B, T]

    def steps():
        with torch.device(device):
            model_with_loss = ModelWithLoss(build(model), chosen)
        optimizer = OPTIMIZERS["adamw"](model_with_loss.model, config.train)
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            model_with_loss(ids, ids).backward()
            optimizer.step()

    if gpu:
        steps()  # libraries take their workspaces
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        steps()
        taken = torch.cuda.max_memory_allocated(device) - before
    else:
        with AllocationTracker() as held:
            steps()
        taken = held.peak
    assert taken == pytest.approx(planned, rel=0.15 if gpu else 0.02)


def test_compiled_model_learns_the_same_with_the_same_names(device, corpus, tmp_path, monkeypatch):
    if (
        device.type == "cpu"
    ):  # compiling for a CPU is tested in test_model_with_loss.py and takes long
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain = begin(device, corpus, tmp_path)
    compiled = begin(device, corpus, tmp_path, system=replace(FLOAT32, compile="yes"))
    assert "hidden" in vars(compiled.model)
    for _ in range(4):
        assert step(compiled)["loss"] == pytest.approx(step(plain)["loss"], rel=CLOSE)
    assert unique_state_dict(compiled.model).keys() == unique_state_dict(plain.model).keys()
    assert compiled.evaluate()["val_loss"] == pytest.approx(plain.evaluate()["val_loss"], rel=CLOSE)


def test_bfloat16_products_leave_weights_and_gradients_in_float32(device, corpus, tmp_path):
    run = begin(device, corpus, tmp_path, system=SystemConfig(precision="bfloat16", compile="no"))
    exact = begin(device, corpus, tmp_path)
    assert step(run)["loss"] == pytest.approx(step(exact)["loss"], rel=0.02)
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in run.model.parameters()} == {torch.float32}


def test_auto_finds_a_precision_by_trial(device):
    model = build(GPTConfig(emb_dim=256, n_heads=4, n_layers=1, vocab_size=64)).to(device)
    chosen = prepare_for_training(model, SystemConfig(), device).precision
    assert chosen.name in ("float32", "bfloat16")
    assert "times as fast" in chosen.reason


def test_steps_are_enqueued_ahead_on_a_gpu_alone(device, corpus, tmp_path):
    assert begin(device, corpus, tmp_path).max_in_flight == (1 if device.type == "cuda" else 0)
