"""Learning: optimizers, clipping, schedules: rows of docs/equivalence.md."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from equivalence import CONFIG, max_difference, row
from llm_scratch.config import TrainConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import Muon, adamw, orthogonalize
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.simple import calc_loss_batch
from llm_scratch.training.step import train_step


def after_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Where five steps along the same random gradients lead."""
    chance = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=chance)
        optimizer.step()
    return [p.detach() for p in parameters]


@row(
    "AdamW, decay on matrices alone",
    "training/optim.adamw",
    "its formula",
    "training/test_optim.py::test_adamw_equals_its_formula",
    1e-5,
    covers="OPTIMIZERS.adamw",
)
def _adam() -> float:
    ours = nn.Linear(8, 5)
    mine = [p.detach().clone() for p in ours.parameters()]
    moved = after_steps(
        adamw(ours, TrainConfig(lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))),
        list(ours.parameters()),
    )
    chance = 1
    generator = torch.Generator().manual_seed(chance)
    mean = [0 * w for w in mine]
    square = [0 * w for w in mine]
    for t in range(1, 6):
        for i, w in enumerate(mine):
            g = torch.randn(w.shape, generator=generator)
            mean[i], square[i] = 0.9 * mean[i] + 0.1 * g, 0.95 * square[i] + 0.05 * g**2
            step = mean[i] / (1 - 0.9**t) / ((square[i] / (1 - 0.95**t)).sqrt() + 1e-8)
            mine[i] = w - 1e-2 * (0.1 if w.ndim == 2 else 0) * w - 1e-2 * step
    return max(map(max_difference, moved, mine))


@row(
    "Muon, for parameters that are not matrices",
    "training/optim.Muon",
    "torch.optim.AdamW",
    "training/test_optim.py::test_muons_other_groups_are_torchs_adamw",
    1e-5,
)
def _muons_adam() -> float:
    ours = nn.Linear(8, 5)
    theirs = copy.deepcopy(ours)
    a = after_steps(
        Muon([{"params": list(ours.parameters())}], 2e-3, (0.9, 0.95)), list(ours.parameters())
    )
    b = after_steps(
        torch.optim.AdamW(theirs.parameters(), 2e-3, (0.9, 0.95), weight_decay=0.0),
        list(theirs.parameters()),
    )
    return max(map(max_difference, a, b))


@row(
    "AdamW, decay on all weights",
    "training/optim.adamw",
    "torch.optim.AdamW",
    "interop/test_notebook.py::test_resumed_losses_equal_the_notebooks",
    1e-5,
)
def _adam_of_the_notebooks() -> float:
    ours = nn.Linear(8, 5)
    theirs = copy.deepcopy(ours)
    a = after_steps(
        adamw(ours, TrainConfig(lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999), decay="all")),
        list(ours.parameters()),
    )
    b = after_steps(
        torch.optim.AdamW(theirs.parameters(), 1e-2, weight_decay=0.1), list(theirs.parameters())
    )
    return max(map(max_difference, a, b))


def turned(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A gradient after `orthogonalize`, in the directions of its SVD.

    And, by direction, whether it had any length there.
    """
    gradient = torch.randn(shape)
    u, sizes, v = torch.linalg.svd(gradient, full_matrices=False)
    return u.mT @ orthogonalize(gradient) @ v.mT, sizes > 0.03 * sizes.norm()


@row(
    "Muon's directions",
    "training/optim.orthogonalize",
    "the SVD's directions: the share outside them",
    "training/test_optim.py::test_orthogonalize_brings_singular_values_to_about_1",
    1e-3,
    covers="OPTIMIZERS.muon",
)
def _directions() -> float:
    return max(
        (middle - middle.diagonal().diag_embed()).abs().max().item()
        for middle, _ in map(turned, ((16, 64), (64, 16), (20, 20)))
    )


@row(
    "Muon's lengths",
    "training/optim.orthogonalize",
    "1, as in the SVD without its lengths",
    "training/test_optim.py::test_orthogonalize_brings_singular_values_to_about_1",
    0.4,
)
def _lengths() -> float:
    return max(
        (middle.diagonal()[kept] - 1).abs().max().item()
        for middle, kept in map(turned, ((16, 64), (64, 16), (20, 20)))
    )


@row(
    "clipping",
    "training/step.train_step",
    "the gradient times longest / length",
    "training/test_step.py::test_gradient_norm_is_measured_and_clipped",
    1e-5,
)
def _clipping() -> float:
    ours, batch = GPTModel(CONFIG), (torch.randint(0, 97, (2, 11)), torch.randint(0, 97, (2, 11)))
    plain = copy.deepcopy(ours)
    with torch.enable_grad():
        train_step(ModelWithLoss(ours), torch.optim.SGD(ours.parameters(), lr=0.0), [batch], 0.1)
        calc_loss_batch(*batch, plain, "cpu").backward()
    grads = [p.grad for p in plain.parameters() if p.grad is not None]
    length = torch.stack([g.norm() for g in grads]).norm()
    return max(
        max_difference(p.grad, g * 0.1 / length)
        for p, g in zip(ours.parameters(), grads, strict=True)
        if p.grad is not None
    )


def schedule(name: str, test: str, formula: Callable[[float], float]) -> None:
    """A row for a schedule: `formula` of the share done, times the range of the rates."""

    def measure() -> float:
        cfg = TrainConfig(lr=1.0, min_lr=0.1, warmup_steps=0, schedule=name)
        return max(
            abs(learning_rate(t, 50, cfg) - (0.1 + 0.9 * formula(t / 50))) for t in range(51)
        )

    row(
        f"{name} schedule",
        f"training/schedule.{name}",
        "its formula",
        f"training/test_schedule.py::{test}",
        1e-12,
        f"SCHEDULES.{name}",
    )(measure)


schedule("constant", "test_schedules_at_both_ends_and_the_middle", lambda done: 1)
schedule("linear", "test_schedules_at_both_ends_and_the_middle", lambda done: 1 - done)
schedule("cosine", "test_cosine_is_half_a_wave", lambda done: (1 + math.cos(math.pi * done)) / 2)


@row(
    "warm-up",
    "training/schedule.learning_rate",
    "even steps up",
    "training/test_schedule.py::test_warm_up_rises_evenly_to_the_highest_rate",
    1e-12,
)
def _warm_up() -> float:
    cfg = TrainConfig(lr=1.0, warmup_steps=8)
    return max(abs(learning_rate(t, 50, cfg) - (t + 1) / 8) for t in range(8))
