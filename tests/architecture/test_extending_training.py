"""Train with custom data, a custom loss and a small trainable part, from outside the package."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import own_finetuning
import pytest
import torch
from effort import PATIENCE_SECONDS
from own_finetuning import CONFIG, LENGTH, Reversal, adapted_model, finetune
from torch.nn import functional as F

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.model.loss import IGNORE
from llm_scratch.run_directory import open_run
from llm_scratch.storage.checkpoint import list_checkpoints, load_latest
from llm_scratch.tokenizers import CharTokenizer
from llm_scratch.training.loop import train
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("llm_scratch.training.loop.environment", lambda *args: {"matrix_rate": 1e9})


def rows(run):
    return [
        {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
        for row in open_run(run).metrics
    ]


def test_custom_finetuning_killed_and_resumed_equals_uninterrupted(tmp_path):
    finetune(tmp_path / "whole")
    script = [sys.executable, own_finetuning.__file__, str(tmp_path / "run"), "8"]
    killed = subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert killed.returncode < 0 or sys.platform == "win32", killed.stderr
    assert list_checkpoints(tmp_path / "run")[0].name == "step-00000005"
    torch.manual_seed(0)  # the random state of this process does not matter
    run = finetune(tmp_path / "run")
    assert run.step == CONFIG.train.steps
    ours, theirs = (
        load_latest(tmp_path / name, pytest.fail, prefer="latest") for name in ("run", "whole")
    )
    for kind in ("weights", "optimizer"):
        one, two = getattr(ours, kind), getattr(theirs, kind)
        assert one.keys() == two.keys()
        assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert ours.state == theirs.state
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_custom_finetuning_on_two_ranks_equals_one(ranks, tmp_path):
    config = dataclasses.replace(
        CONFIG.with_model(drop_rate=0.0), system=dataclasses.replace(CONFIG.system, parallel="fsdp")
    )
    answers = ranks.train(2, config, tmp_path / "two", finetunes=True)
    assert [answer["trace"] for answer in answers if "trace" in answer] == []
    finetune(tmp_path / "one", config=config)
    two, one = (load_latest(tmp_path / name, pytest.fail).weights for name in ("two", "one"))
    assert two.keys() == one.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-5, atol=1e-6)


def test_finetuning_optimizes_and_saves_only_the_trainable_part(tmp_path):
    run = finetune(tmp_path / "run")
    before = dict(adapted_model().named_parameters())
    trained = {
        name
        for name, weight in run.model.named_parameters()
        if not torch.equal(weight, before[name])
    }
    saved = load_latest(tmp_path / "run", pytest.fail)
    assert (
        trained
        == saved.weights.keys()
        == {name for name, weight in before.items() if weight.requires_grad}
    )
    assert len(trained) == 8
    assert {name.partition("/")[0] for name in saved.optimizer} == trained
    assert not list((saved.folder).glob("tokenizer*"))


def test_masked_targets_do_not_count_in_the_loss(tmp_path):
    run = finetune(tmp_path / "run")
    assert run.tokens == CONFIG.train.steps * 8 * LENGTH
    scored = [row for row in rows(tmp_path / "run") if "val_loss" in row]
    assert "val_bits_per_byte" not in scored[0], "data without a text has no bytes"
    inputs, targets = (
        torch.cat(parts) for parts in zip(*(Reversal(2, 2).batch(step) for step in range(2)))
    )
    with torch.no_grad():
        logits = run.model.eval()(inputs)[:, LENGTH:]
    loss = F.cross_entropy(logits.flatten(0, 1), targets[:, LENGTH:].flatten())
    assert scored[-1]["val_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_resuming_on_another_base_is_an_error(tmp_path):
    finetune(tmp_path / "run")
    for model in (adapted_model(seed=4), build(CONFIG.model)):
        with pytest.raises(
            UserError,
            match="the frozen weights of the model are not those that the run was trained with",
        ) as error:
            finetune(tmp_path / "run", model=model)
        assert error.value.code == CHECKPOINT
    with pytest.raises(
        UserError, match="holds only the trained part of a model with frozen weights"
    ):
        load(tmp_path / "run")


def test_custom_loss_is_minimized(tmp_path):
    """Train on a loss over pairs of rows, as in preference learning: the second row wins."""

    class Pairs(Reversal):
        def batch(self, step, rank=0, world=1):
            inputs, targets = super().batch(step, rank, world)
            targets[::2, LENGTH:] = (
                targets[::2, LENGTH:] + 1
            ) % own_finetuning.N_DIGITS  # wrong answers
            return inputs, targets

    def margins(model, inputs, targets):
        log_probs = -F.cross_entropy(
            model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        rejected, preferred = log_probs.view_as(targets).sum(1).view(-1, 2).unbind(1)
        return preferred - rejected

    def preference_loss(model, inputs, targets):
        return (
            -F.logsigmoid(margins(model, inputs, targets)).sum() * 2 * LENGTH
        )  # of two rows, LENGTH targets each

    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, lr=0.01, steps=20)
    ).with_model(drop_rate=0.0)
    pairs = Pairs(1, 1)
    run = train(config, tmp_path / "run", data=pairs, val=pairs, loss=preference_loss)
    losses = [row["val_loss"] for row in rows(tmp_path / "run") if "val_loss" in row]
    with torch.no_grad():
        margin = margins(run.model.eval(), *pairs.batch(0))
    assert losses[-1] == pytest.approx(-F.logsigmoid(margin).mean().item(), rel=1e-5)
    assert losses[-1] < 0.75 * losses[0]
    assert run.best == min(losses)


def test_custom_data_with_a_tokenizer_is_sampled(tmp_path):
    tokenizer = CharTokenizer.train(["0123456789="])
    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, sample_every=12, prompt="12=", steps=12)
    )
    config = config.with_model(vocab_size=tokenizer.n_vocab)
    train(config, tmp_path / "run", data=Reversal(1, 6), val=Reversal(2, 2), tokenizer=tokenizer)
    assert "## Step 12" in (tmp_path / "run" / "samples.md").read_text()
    _, loaded = load(tmp_path / "run")
    assert loaded.encode("12=") == tokenizer.encode("12=")


def test_contributing_shows_a_run_that_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = (
        page.partition("### Batches, a loss, a callback\n")[2]
        .partition("```python\n")[2]
        .partition("```\n")[0]
    )
    exec(compile(code, "mine.py", "exec"), {"__name__": "mine"})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [step for step, _ in printed] == ["0", "10", "20"]
    assert float(printed[-1][1]) < float(printed[0][1])
    saved = load_latest(tmp_path / "runs" / "sums", pytest.fail)
    assert {name.split(".")[1] for name in saved.weights} == {"1"}, "only the last block is saved"


def test_invalid_train_arguments_are_errors(tmp_path):
    sampled = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, sample_every=5))
    for config, arguments, message in (
        (
            CONFIG,
            {"data": Reversal(1, 6)},
            "data: there is nothing to validate with; pass val= too",
        ),
        (
            CONFIG,
            {
                "data": Reversal(1, 6),
                "val": Reversal(2, 2),
                "model": build(CONFIG.model).requires_grad_(False),
            },
            "nothing to train",
        ),
        (
            sampled,
            {"data": Reversal(1, 6), "val": Reversal(2, 2)},
            "train.sample_every: samples need a tokenizer",
        ),
    ):
        with pytest.raises(UserError, match=message):
            train(config, tmp_path / "run", **arguments)
    assert not Path(tmp_path / "run" / "metrics.jsonl").exists()
