"""The training loop of lesson 4: it fits on one screen and uses plain data loaders.

`training/loop.py` does the same for real runs, with a schedule, clipping, checkpoints and resume.
Tests: tests/training/test_simple.py and tests/notebooks/test_step4.py. Lesson:
lessons/step4_pretraining.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from llm_scratch.generation.decode import generate_text_simple, text_to_token_ids, token_ids_to_text
from llm_scratch.model.introspection import context_length, eval_mode
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.storage.files import atomic_file

Batch = tuple[Tensor, Tensor]


def calc_loss_batch(
    input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: torch.device | str
) -> Tensor:
    """The mean loss of one batch, in nats per token, ready for `backward`.

    input_batch, target_batch: [B, T] token ids.
    """
    return next_token_loss(model(input_batch.to(device)), target_batch.to(device))


@torch.no_grad()
def calc_loss_loader(
    data_loader: Iterable[Batch],
    model: nn.Module,
    device: torch.device | str,
    num_batches: int | None = None,
) -> float:
    """The mean loss over a loader, in nats per token; nan for an empty loader.

    Every token counts the same.

    The notebooks took the mean of the batches' means. The two agree if all batches have the same
    size; a short last batch had too much weight there. The model stays in its mode.

    Args:
        data_loader: (inputs, targets), each [B, T].
        model: returns logits.
        device: of the model.
        num_batches: evaluate only this many; None: all.
    """
    total = 0.0
    n_targets = 0
    for input_batch, target_batch in islice(data_loader, num_batches):
        targets = target_batch.to(device)
        total += next_token_loss(model(input_batch.to(device)), targets, "sum").item()
        n_targets += int((targets != IGNORE).sum())
    return total / n_targets if n_targets else math.nan


def evaluate_model(
    model: nn.Module,
    train_loader: Iterable[Batch],
    val_loader: Iterable[Batch],
    device: torch.device | str,
    eval_iter: int | None,
) -> tuple[float, float]:
    """(training loss, validation loss) over the first `eval_iter` batches, without dropout."""
    with eval_mode(model):
        return calc_loss_loader(train_loader, model, device, eval_iter), calc_loss_loader(
            val_loader, model, device, eval_iter
        )


def generate_and_print_sample(
    model: nn.Module, tokenizer: Any, device: torch.device | str, start_context: str
) -> None:
    """Print a greedy continuation of `start_context` by 50 tokens, on one line."""
    ids = text_to_token_ids(start_context, tokenizer).to(device)
    size = context_length(model) or 50 + ids.shape[1]
    print(
        token_ids_to_text(generate_text_simple(model, ids, 50, size), tokenizer).replace("\n", " ")
    )


def train_model_simple(
    model: nn.Module,
    train_loader: Iterable[Batch],
    val_loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int | None,
    start_context: str,
    tokenizer: Any,
) -> tuple[list[float], list[float], list[int]]:
    """Train for `num_epochs` epochs, and print losses and samples.

    Args:
        model: returns logits.
        train_loader, val_loader: (inputs, targets), each [B, T].
        optimizer: of the model's parameters.
        device: of the model.
        num_epochs: passes over the training data.
        eval_freq: steps between two evaluations.
        eval_iter: batches of each loader for an evaluation; None: all.
        start_context: prompt of the sample after each epoch.
        tokenizer: of the model.
    Returns:
        (train_losses, val_losses, track_tokens_seen): nats per token at each evaluation, and the
        tokens trained on by then.
    """
    train_losses: list[float] = []
    val_losses: list[float] = []
    track_tokens_seen: list[int] = []
    tokens_seen = step = 0
    for epoch in range(1, num_epochs + 1):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            calc_loss_batch(input_batch, target_batch, model, device).backward()
            optimizer.step()
            tokens_seen += input_batch.numel()
            if step % eval_freq == 0:
                train_loss, val_loss = evaluate_model(
                    model, train_loader, val_loader, device, eval_iter
                )
                train_losses.append(train_loss)
                val_losses.append(val_loss)
                track_tokens_seen.append(tokens_seen)
                print(
                    f"Ep {epoch} (Step {step:06d}):"
                    f" Train loss {train_loss:.3f}, Val loss {val_loss:.3f}"
                )
            step += 1
        generate_and_print_sample(model, tokenizer, device, start_context)
    return train_losses, val_losses, track_tokens_seen


def plot_losses(
    epochs_seen: Sequence[float] | Tensor,
    tokens_seen: Sequence[int],
    train_losses: Sequence[float],
    val_losses: Sequence[float],
    *,
    path: str | Path = "loss-plot.pdf",
) -> Figure:
    """Plot both losses over epochs, with a second axis for tokens, and save the figure as `path`.

    Raises:
        ValueError: the four sequences differ in length.
    """
    points = list(zip(epochs_seen, tokens_seen, train_losses, val_losses, strict=True))
    epochs, tokens, train, val = ([float(point[i]) for point in points] for i in range(4))
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(epochs, train, label="training")
    axes.plot(epochs, val, "-.", label="validation")
    axes.set_xlabel("epochs")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(frameon=False)
    upper = axes.twiny()
    upper.plot(tokens, train, alpha=0)  # invisible: it aligns the ticks
    upper.set_xlabel("tokens seen")
    with atomic_file(Path(path)) as part:
        figure.savefig(part, format=Path(path).suffix.removeprefix("."))
    return figure
