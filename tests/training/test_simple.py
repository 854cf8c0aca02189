"""The notebooks' training functions equal the formula and the notebooks' outputs.

They are exact over ragged batches.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.loss import IGNORE
from llm_scratch.training.simple import (
    calc_loss_batch,
    calc_loss_loader,
    evaluate_model,
    generate_and_print_sample,
    plot_losses,
    train_model_simple,
)

CFG = {
    "vocab_size": 257,
    "context_length": 8,
    "emb_dim": 16,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.3,
    "qkv_bias": False,
}


class Bytes:
    n_vocab, eot_token = 257, 256

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")


def loader(rows, batch_size, **kwargs):
    ids = torch.randint(0, 256, (rows, 9), generator=torch.Generator().manual_seed(rows))
    return DataLoader(TensorDataset(ids[:, :-1], ids[:, 1:]), batch_size, **kwargs)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(CFG)


@pytest.fixture
def losses(model):
    """Every token's loss by the formula, [7, 8], for the loader of 7 rows."""
    model.eval()
    inputs, targets = loader(7, 7).dataset.tensors
    return -model(inputs).log_softmax(-1).gather(-1, targets[..., None])[..., 0].detach()


def test_calc_loss_batch_equals_the_formula(model, losses):
    inputs, targets = loader(7, 7).dataset.tensors
    loss = calc_loss_batch(inputs, targets, model, "cpu")
    torch.testing.assert_close(loss, losses.mean())
    loss.backward()
    assert model.tok_emb.weight.grad is not None


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 100])
def test_calc_loss_loader_is_exact_over_a_ragged_last_batch(model, losses, batch_size):
    """The notebooks' mean of batch means overweights the last row (7 = 3 + 3 + 1)."""
    assert calc_loss_loader(loader(7, batch_size), model, "cpu") == pytest.approx(
        losses.mean().item(), rel=1e-6
    )
    if batch_size == 3:
        notebook = (losses[:3].mean() + losses[3:6].mean() + losses[6:].mean()) / 3
        assert abs(notebook - losses.mean()) > 1e-3


def test_calc_loss_loader_reads_only_the_first_batches(model, losses):
    assert calc_loss_loader(loader(7, 3), model, "cpu", 2) == pytest.approx(
        losses[:6].mean().item(), rel=1e-6
    )
    assert calc_loss_loader(loader(7, 3), model, "cpu", 99) == pytest.approx(
        losses.mean().item(), rel=1e-6
    )


def test_loader_counts_only_unmasked_tokens(model, losses):
    batches = [(inputs, targets.clone()) for inputs, targets in loader(7, 7)]
    batches[0][1][2:, 1:] = IGNORE
    want = torch.cat([losses[:2].flatten(), losses[2:, 0]]).mean().item()
    assert calc_loss_loader(batches, model, "cpu") == pytest.approx(want, rel=1e-6)


def test_loss_of_an_empty_loader_is_nan(model):
    assert math.isnan(calc_loss_loader([], model, "cpu"))
    assert math.isnan(calc_loss_loader(loader(7, 3), model, "cpu", 0))


def test_evaluate_model_has_no_dropout_and_restores_the_mode(model, losses):
    for training in (True, False):
        model.train(training)
        train_loss, val_loss = evaluate_model(model, loader(7, 3), loader(4, 4), "cpu", None)
        assert model.training == training
        assert train_loss == pytest.approx(losses.mean().item(), rel=1e-6)
        assert val_loss != pytest.approx(train_loss, rel=1e-3)


def test_sample_is_one_line_of_fifty_tokens(model, capsys):
    ids = []
    tokenizer = Bytes()
    tokenizer.decode = lambda row: ids.extend(row) or "one\ntwo"
    generate_and_print_sample(model, tokenizer, "cpu", "fox")
    assert capsys.readouterr().out == "one two\n"
    assert len(ids) == 3 + 50
    assert model.training


def test_sample_needs_only_the_notebooks_attributes(model, capsys):
    """The notebooks' GPTModel has no cfg and no new_cache; its context is read from `pos_emb`."""
    notebook = torch.nn.Module()
    notebook.pos_emb, notebook.forward = model.pos_emb, lambda in_idx: model(in_idx)
    generate_and_print_sample(notebook, Bytes(), "cpu", "fox")
    assert capsys.readouterr().out.startswith("fox")


def train(model, capsys, epochs=2, eval_freq=2):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(1)
    result = train_model_simple(
        model,
        loader(6, 2, shuffle=True),
        loader(3, 2),
        optimizer,
        "cpu",
        epochs,
        eval_freq,
        1,
        "fox",
        Bytes(),
    )
    return result, capsys.readouterr().out


def test_train_model_simple_equals_the_plain_loop(model, capsys):
    ours, theirs = model, copy.deepcopy(model)
    train(ours.eval(), capsys)  # a model in eval mode is still trained with dropout
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    torch.manual_seed(1)
    evaluated, step, batches = [], 0, loader(6, 2, shuffle=True)
    for _ in range(2):
        theirs.train()
        for inputs, targets in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(
                theirs(inputs).flatten(0, 1), targets.flatten()
            ).backward()
            optimizer.step()
            if step % 2 == 0:
                evaluated.append(evaluate_model(theirs, batches, loader(3, 2), "cpu", 1))
            step += 1
        generate_and_print_sample(theirs, Bytes(), "cpu", "fox")
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight, msg=name)


def test_train_model_simple_returns_and_prints_as_the_notebook(model, capsys):
    (train_losses, val_losses, seen), out = train(model, capsys)
    assert seen == [16, 48, 80]
    lines = out.split("\n")[:-1]
    evaluations = [line for line in lines if line.startswith("Ep ")]
    assert evaluations == [
        f"Ep {epoch} (Step {step:06d}): Train loss {a:.3f}, Val loss {b:.3f}"
        for (epoch, step), a, b in zip(
            [(1, 0), (1, 2), (2, 4)], train_losses, val_losses, strict=True
        )
    ]
    assert [line for line in lines if line.startswith("fox")]
    assert len(lines) == 3 + 2


def test_train_model_simple_lowers_the_loss(model, capsys):
    (train_losses, _, _), _ = train(model, capsys, epochs=12, eval_freq=4)
    assert train_losses[-1] < 0.7 * train_losses[0]


def test_plot_losses_writes_the_notebooks_file_and_shows_both_axes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = plot_losses(
        torch.linspace(0, 3, 4), [10, 20, 30, 40], [4, 3, 2, 1], [4, 3.5, 3.2, 3.4]
    )
    assert (tmp_path / "loss-plot.pdf").read_bytes().startswith(b"%PDF")
    assert [p.name for p in tmp_path.iterdir()] == ["loss-plot.pdf"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epochs", "tokens seen"]
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [
        [4, 3, 2, 1],
        [4, 3.5, 3.2, 3.4],
    ]
    plot_losses([0, 1], [1, 2], [1, 2], [1, 2], path=tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_plot_losses_requires_equal_lengths(tmp_path):
    with pytest.raises(ValueError, match="shorter|longer"):
        plot_losses([0, 1], [1, 2], [1, 2], [1], path=tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())
