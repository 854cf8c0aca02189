"""A run that was stopped or killed at any step ends with the bits of an uninterrupted one."""

import dataclasses
import signal
import threading

import numpy as np
import pytest
import torch
from effort import PATIENCE_SECONDS

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.errors import CHECKPOINT, DIVERGED, INTERRUPTED, USAGE, UserError
from llm_scratch.hardware.matmul_backend import ONEDNN, default_backend, onednn_is_float32
from llm_scratch.loading import load
from llm_scratch.run_directory import open_run
from llm_scratch.storage import checkpoint, files
from llm_scratch.storage.checkpoint import list_checkpoints, load_latest
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.fault_injection import inject_requested
from llm_scratch.training.in_flight import MAX_IN_FLIGHT
from llm_scratch.training.loop import train
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.precision import Precision
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
STEPS = 9


def settings(**train):
    """A one-second run with dropout, two micro-batches, and each kind of event at another step."""
    often = {
        "eval_every": 4,
        "eval_batches": 2,
        "save_every": 3,
        "sample_every": 5,
        "log_every": 1,
        "prompt": "the cat",
    }
    return RunConfig(
        GPTConfig(
            vocab_size=20, context_length=8, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.2
        ),
        DataConfig(source="stories", tokenizer="chars"),
        TrainConfig(
            **(
                {"steps": STEPS, "batch_size": 4, "micro_batches": 2, "warmup_steps": 2, "lr": 1e-2}
                | often
                | train
            )
        ),
    )


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:480], ids[480:], len(ids) - 480)


@pytest.fixture(autouse=True, scope="module")
def _fast():
    """Skip disk flushes, which take longer than the run, and long samples.

    test_checkpoint.py and test_samples.py test them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        patch.setattr("llm_scratch.training.samples.SAMPLE_TOKENS", 12)
        yield


class StopAt(Callback):
    """Press Ctrl-C (or pull the plug) after a step."""

    def __init__(self, step, how):
        self.at, self.how = step, how

    def step(self, run, row):
        if run.step == self.at:
            self.how()


def press(number):
    return lambda: signal.raise_signal(number)


def plug():
    raise MemoryError("the plug is pulled")


def timeless(run):
    return [
        {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
        for row in open_run(run).metrics
    ]


def assert_same_run(ours, theirs):
    a, b = (load_latest(run, pytest.fail, prefer="latest") for run in (ours, theirs))
    for kind in ("weights", "optimizer"):
        one, two = getattr(a, kind), getattr(b, kind)
        assert one.keys() == two.keys()
        assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert a.state == b.state
    assert timeless(ours) == timeless(theirs)
    assert (ours / "samples.md").read_text() == (theirs / "samples.md").read_text()
    assert [f.name for f in list_checkpoints(ours)] == [f.name for f in list_checkpoints(theirs)]
    assert (ours / "ckpt" / "best").read_text() == (theirs / "ckpt" / "best").read_text()


@pytest.fixture(scope="module", params=OPTIMIZERS)
def uninterrupted(request, tmp_path_factory, corpus):
    config = settings(optimizer=request.param)
    folder = tmp_path_factory.mktemp(request.param)
    train(config, folder, corpus=corpus)
    return config, folder


@pytest.mark.parametrize("step", range(1, STEPS))
def test_run_stopped_by_ctrl_c_and_resumed_equals_uninterrupted(
    uninterrupted, corpus, tmp_path, step
):
    config, want = uninterrupted
    with pytest.raises(UserError, match=f"stopped at step {step}, saved in") as error:
        train(config, tmp_path, corpus=corpus, callbacks=[StopAt(step, press(signal.SIGINT))])
    assert error.value.code == INTERRUPTED
    torch.manual_seed(0)  # the random state in between does not matter
    run = train(config, tmp_path, corpus=corpus)
    assert run.step == STEPS
    assert {f.name for f in list_checkpoints(want)} <= {
        f.name for f in list_checkpoints(tmp_path)
    } | {f"step-{step:08d}"}
    for folder in list_checkpoints(
        tmp_path
    ):  # the extra checkpoint of the stop may have pushed an older one out, nothing else differs
        if not (want / "ckpt" / folder.name).exists():
            continue
        assert (folder / "manifest.json").read_text() == (
            want / "ckpt" / folder.name / "manifest.json"
        ).read_text()
    assert_same_run(tmp_path, want)


@pytest.mark.parametrize("step", [1, 3, 6, 8])
def test_killed_and_resumed_run_equals_uninterrupted(uninterrupted, corpus, tmp_path, step):
    """Lines after the last checkpoint are removed: no log file has a step twice."""
    config, want = uninterrupted
    with pytest.raises(MemoryError):
        train(config, tmp_path, corpus=corpus, callbacks=[StopAt(step, plug)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # and the machine stopped in the middle of a line
    train(config, tmp_path, corpus=corpus)
    assert_same_run(tmp_path, want)


def test_repeatedly_stopped_run_equals_uninterrupted(uninterrupted, corpus, tmp_path):
    config, want = uninterrupted
    for step in (2, 3, 7):
        with pytest.raises(UserError, match=f"stopped at step {step}"):
            train(config, tmp_path, corpus=corpus, callbacks=[StopAt(step, press(signal.SIGTERM))])
    train(config, tmp_path, corpus=corpus)
    assert_same_run(tmp_path, want)


def test_run_is_determined_by_its_seed(uninterrupted, corpus, tmp_path):
    config, want = uninterrupted
    train(config, tmp_path / "same", corpus=corpus)
    assert_same_run(tmp_path / "same", want)
    other = train(
        dataclasses.replace(config, train=dataclasses.replace(config.train, seed=7)),
        tmp_path / "other",
        corpus=corpus,
    )
    assert timeless(other.folder) != timeless(want)


def use_trial(monkeypatch, precision, backend):
    """Stub the trials at the start of a run with these results."""
    chosen = Precision(precision, "by trial")
    monkeypatch.setattr(
        "llm_scratch.training.model_with_loss.choose_precision", lambda *args: chosen
    )
    monkeypatch.setattr(
        "llm_scratch.training.model_with_loss.fastest_matmul_backend", lambda: backend
    )


FIRST, SECOND = ("bfloat16", default_backend()), ("float32", ONEDNN)


@pytest.mark.parametrize(("first", "later"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_resumed_run_keeps_its_choices_when_a_new_trial_disagrees(
    first, later, corpus, tmp_path, monkeypatch
):
    use_trial(monkeypatch, *first)
    train(settings(), tmp_path / "whole", corpus=corpus)
    with pytest.raises(MemoryError):
        train(settings(), tmp_path / "run", corpus=corpus, callbacks=[StopAt(7, plug)])
    use_trial(monkeypatch, *later)
    warned = Warned()
    run = train(settings(), tmp_path / "run", corpus=corpus, callbacks=[warned])
    assert warned.messages == []
    assert (run.model_with_loss.precision.name, run.model_with_loss.matmul_backend) == first
    assert_same_run(tmp_path / "run", tmp_path / "whole")


class Warned(Callback):
    def __init__(self):
        self.messages = []

    def warn(self, message):
        self.messages.append(message)


def test_resumed_run_names_unavailable_choices_in_one_line(corpus, tmp_path, monkeypatch):
    use_trial(monkeypatch, "float32", ONEDNN)
    if not onednn_is_float32():
        pytest.skip("oneDNN cannot multiply float32 matrices on this processor")
    with pytest.raises(MemoryError):
        train(settings(), tmp_path / "run", corpus=corpus, callbacks=[StopAt(7, plug)])
    monkeypatch.setattr("llm_scratch.hardware.matmul_backend.onednn_is_float32", lambda: False)
    warned = Warned()
    run = train(settings(), tmp_path / "run", corpus=corpus, callbacks=[warned])
    assert run.step == STEPS
    (message,) = warned.messages
    assert message.startswith(f"matmul_backend was oneDNN and is {default_backend()}: ")
    assert "last bits may differ" in message


def test_samples_and_evaluation_do_not_change_training(uninterrupted, corpus, tmp_path):
    config, want = uninterrupted
    other = settings(
        optimizer=config.train.optimizer, sample_every=0, eval_every=STEPS, save_every=STEPS
    )
    run = train(other, tmp_path, corpus=corpus)
    weights = load_latest(want, pytest.fail).weights
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


def test_finished_run_is_unchanged(uninterrupted, corpus):
    config, folder = uninterrupted
    before = timeless(folder)
    assert train(config, folder, corpus=corpus).step == STEPS
    assert timeless(folder) == before


def test_second_ctrl_c_stops_at_once(corpus, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(settings(), tmp_path, corpus=corpus, callbacks=[StopAt(4, twice)])
    assert signal.getsignal(signal.SIGINT) is before
    assert load_latest(tmp_path, pytest.fail).state["step"] == 3


@pytest.mark.parametrize("ahead", [1, 3])
def test_run_with_steps_in_flight_equals_one_without(
    uninterrupted, corpus, tmp_path, ahead, monkeypatch
):
    """As on a GPU, results are read late; due actions happen at their step; a stop waits."""
    config, want = uninterrupted
    monkeypatch.setitem(MAX_IN_FLIGHT, "cpu", ahead)
    train(config, tmp_path / "whole", corpus=corpus)
    assert_same_run(tmp_path / "whole", want)
    for step in (1, 6):
        with pytest.raises(UserError, match="stopped at step"):
            train(
                config,
                tmp_path / "run",
                corpus=corpus,
                callbacks=[StopAt(step, press(signal.SIGTERM))],
            )
    train(config, tmp_path / "run", corpus=corpus)
    assert_same_run(tmp_path / "run", want)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_bad_steps_in_flight_are_skipped_and_cause_a_rollback(corpus, tmp_path, ahead, monkeypatch):
    monkeypatch.setitem(MAX_IN_FLIGHT, "cpu", ahead)
    monkeypatch.setenv("LLM_SCRATCH_FAULT", "step:4:nan,step:7:inf,step:8:nan,step:9:nan")
    config = settings(steps=14, log_every=1, save_every=6, eval_every=14, sample_every=0)
    run = train(config, tmp_path / str(ahead), corpus=corpus, inject_fault=inject_requested)
    rows = open_run(tmp_path / str(ahead)).metrics
    assert [row["step"] for row in rows if "skipped" in row] == [4]
    assert [row["step"] for row in rows if "loss" in row] == [
        step for step in range(1, 15) if step != 4
    ]
    assert (
        run.step,
        run.recovery.counts.rollbacks,
        run.recovery.counts.skipped_batches,
        run.recovery.counts.skipped,
    ) == (14, 1, 3, 4)
    assert run.tokens == 13 * 4 * 8


def test_training_lowers_the_loss(corpus, tmp_path):
    run = train(
        settings(steps=60, eval_every=60, save_every=60, sample_every=0), tmp_path, corpus=corpus
    )
    rows = [row for row in open_run(tmp_path).metrics if "val_loss" in row]
    assert rows[0]["step"] == 0
    assert rows[-1]["val_loss"] < rows[0]["val_loss"] - 0.5
    assert run.best == rows[-1]["val_loss"]


def test_best_checkpoint_is_kept_and_loaded(corpus, tmp_path):
    """A validation loss that rises after step 8: `best` names that one, and `load` takes it."""
    run = train(
        settings(eval_every=2, lr=0.2, warmup_steps=0, schedule="constant"), tmp_path, corpus=corpus
    )
    rows = [row for row in open_run(tmp_path).metrics if "val_loss" in row and row["step"]]
    best = min(rows, key=lambda row: row["val_loss"])["step"]
    assert best < STEPS
    assert (tmp_path / "ckpt" / "best").read_text() == f"step-{best:08d}\n"
    model, tokenizer = load(tmp_path)
    assert not model.training
    assert tokenizer.encode("the cat") == corpus.tokenizer.encode("the cat")
    weights = load_latest(tmp_path, pytest.fail, prefer="best").weights
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert run.step == STEPS


def test_epochs_determine_the_number_of_steps(corpus, tmp_path):
    config = settings(epochs=2, batch_size=15, micro_batches=3, eval_every=100)
    run = train(config, tmp_path, corpus=corpus)
    assert run.steps == run.step == 2 * len(run.data.train)
    assert run.tokens == run.steps * 15 * 8


def test_run_of_other_settings_is_not_overwritten(uninterrupted, corpus):
    config, folder = uninterrupted
    before = timeless(folder)
    with pytest.raises(UserError, match="has a run with other settings") as error:
        train(config.with_model(n_layers=1), folder, corpus=corpus)
    assert error.value.code == CHECKPOINT
    assert timeless(folder) == before


def test_divergence_is_an_error_and_keeps_the_last_checkpoint(corpus, tmp_path):
    class Poison(Callback):
        def step(self, run, row):
            if run.step == 5:
                run.model.out_head.weight.data[0, 0] = float("nan")

    with pytest.raises(
        UserError, match=r"steps 6 to 8 were bad .* 3 times already: training diverged.*--train\.lr"
    ) as error:
        train(settings(sample_every=0), tmp_path, corpus=corpus, callbacks=[Poison()])
    assert error.value.code == DIVERGED
    assert load_latest(tmp_path, pytest.fail).state["step"] == 4
    rows = open_run(tmp_path).metrics
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows if "skipped" in row] == [6, 7, 8]
    assert [row["rollbacks"] for row in rows if "rollbacks" in row] == [3], (
        "rows after step 4 were removed each time"
    )


@pytest.mark.parametrize("due", ["eval_every", "sample_every", "save_every"])
def test_non_finite_weights_are_never_evaluated_sampled_or_saved(corpus, tmp_path, due):
    class Poison(Callback):
        def step(self, run, row):
            if run.step == 5:
                run.model.tok_emb.weight.data[:] = float("inf")

    never = {"eval_every": 99, "sample_every": 0, "save_every": 2}
    with pytest.raises(
        UserError, match=r"tok_emb\.weight has non-finite values after step 5"
    ) as error:
        train(settings(**never | {due: 5}), tmp_path, corpus=corpus, callbacks=[Poison()])
    assert error.value.code == DIVERGED
    assert all(
        torch.isfinite(w).all()
        for found in [load_latest(tmp_path, pytest.fail)]
        if found
        for w in found.weights.values()
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (settings(optimizer="adam"), "unknown optimizer 'adam'; did you mean 'adamw'"),
        (settings(schedule="cosin"), "unknown schedule 'cosin'; did you mean 'cosine'"),
    ],
    ids=["optimizer", "schedule"],
)
def test_unknown_name_is_an_error_before_writing(config, message, corpus, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        train(config, tmp_path / "run", corpus=corpus)
    assert error.value.code == USAGE
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_run_is_stopped_and_resumed(device, corpus, tmp_path, precision):
    """Sums on a GPU have no fixed order, so losses are close; random state and data are equal."""
    config = dataclasses.replace(
        settings(steps=30, save_every=10), system=SystemConfig(precision=precision, compile="no")
    )
    whole = train(config, tmp_path / "whole", corpus=corpus, device=str(device))
    with pytest.raises(UserError, match="stopped at step"):
        train(
            config,
            tmp_path / "run",
            corpus=corpus,
            device=str(device),
            callbacks=[StopAt(13, press(signal.SIGTERM))],
        )
    run = train(config, tmp_path / "run", corpus=corpus, device=str(device))
    assert next(run.model.parameters()).device.type == device.type
    assert (run.step, run.tokens) == (whole.step, whole.tokens)
    ours, theirs = (timeless(tmp_path / name) for name in ("run", "whole"))
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    assert ours[-1]["loss" if "loss" in ours[-1] else "val_loss"] < ours[0]["val_loss"], (
        "the loss falls"
    )
    for a, b in zip(ours, theirs):
        for key in ("loss", "val_loss"):
            if key in a:
                assert a[key] == pytest.approx(
                    b[key], rel=1e-3 if precision == "float32" else 2e-2
                ), a["step"]


class SlowDisk(files.FileSystem):
    """A disk that accepts the first checkpoint only after a later step."""

    def __init__(self):
        self.may = threading.Event()

    def write(self, path, pieces):
        if "step-00000003" in str(path):
            assert self.may.wait(PATIENCE_SECONDS), "training waited for the disk"
        super().write(path, pieces)


def test_async_save_holds_the_state_at_its_start(tmp_path, corpus, monkeypatch):
    """Two steps run while the disk blocks; the checkpoint equals that of a blocking save."""
    config = settings(eval_every=STEPS)
    monkeypatch.setattr(checkpoint, "MAX_KEPT", STEPS)
    waited, behind = (
        dataclasses.replace(config, system=SystemConfig(async_save=wanted))
        for wanted in ("no", "yes")
    )
    train(waited, tmp_path / "waited", corpus=corpus)
    disk = SlowDisk()
    monkeypatch.setattr(files, "filesystem", disk)
    train(behind, tmp_path / "behind", corpus=corpus, callbacks=[StopAt(5, disk.may.set)])
    for name in ("model.safetensors", "optim.safetensors", "state.json"):
        for step in (3, 6, 9):
            ours, theirs = (
                (tmp_path / run / "ckpt" / f"step-{step:08d}" / name).read_bytes()
                for run in ("behind", "waited")
            )
            assert ours == theirs, f"{name} of step {step}"
