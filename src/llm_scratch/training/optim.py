"""Optimizers: AdamW and Muon.

To add one, write `lion(model, cfg) -> Optimizer`, then `OPTIMIZERS["lion"] = lion` and train with
`--train.optimizer lion`. The loop sets each group's `lr` to the schedule's rate times the group's
`lr_scale` (default: 1).
Tests: tests/training/test_optim.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step

from llm_scratch.config import TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.training.distributed import full_tensor, shard_like


def _parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable matrices (linear layers, embeddings), and the rest (norms, biases)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    return matrices, [p for p in model.parameters() if p.requires_grad and p.ndim < 2]


def adamw(model: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    """AdamW: each weight moves by its average gradient divided by the gradient's typical size.

    Weight decay applies to matrices only, or to all parameters (`decay`).

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.
    """
    matrices, others = _parameters(model)
    rest = cfg.weight_decay if cfg.decay == "all" else 0.0
    groups = [
        {"params": matrices, "weight_decay": cfg.weight_decay},
        {"params": others, "weight_decay": rest},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas, fused=True)


def orthogonalize(gradient: Tensor, steps: int = 4) -> Tensor:
    """The nearest matrix with all singular values near 1.

    Every direction of the gradient gets the same weight.

    A Newton-Schulz iteration replaces x by p x with p = a + b g + c g^2 and g = x x^T. All of it is
    computed on the small square matrix g, which p turns into p g p; the product of the p of all
    iterations multiplies x once at the end.

    Args:
        gradient: [..., rows, columns].
        steps: iterations; four bring nearly all singular values to between 0.68 and 1.2, a fifth
            the smallest ones.
    Source: Jordan et al. 2024, "Muon", https://kellerjordan.github.io/posts/muon/ (with its
    coefficients).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = gradient.shape[-2] > gradient.shape[-1]
    x = gradient.mT if tall else gradient
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    g = x @ x.mT
    all_p = None
    for _ in range(steps):
        p = b * g + c * g @ g
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        g, all_p = p @ g @ p, p if all_p is None else p @ all_p
    x = x if all_p is None else all_p @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon (orthogonalized momentum) for groups with `matrix=True`; AdamW for the other groups.

    A matrix [rows, columns] moves by lr x sqrt(max(1, rows / columns)) in every direction of its
    momentum. As in torch's fused optimizers, a tensor `found_inf` that is not 0 makes a step change
    nothing, without synchronizing with the GPU.
    """

    _step_supports_amp_scaling = True  # torch's name for "supports found_inf"
    found_inf: Tensor | None = None

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
    ) -> None:
        super().__init__(
            groups,
            {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": 0.0, "matrix": False},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["matrix"]:
                self._step_matrices(params, group)
            elif params:
                self._step_adamw(params, group)
        return loss

    def _step_matrices(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        skip = None if self.found_inf is None else self.found_inf.bool()
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for p in params:
            by_shape.setdefault(p.shape, []).append(p)
        for shape, same in by_shape.items():  # one batched product for equal shapes
            ahead = torch.stack(
                [full_tensor(self._nesterov(p, group["momentum"], skip)) for p in same]
            )
            scale = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
            for p, direction in zip(same, orthogonalize(ahead)):
                new = p.mul(1 - group["lr"] * group["weight_decay"]).add_(
                    shard_like(p, direction), alpha=-scale
                )
                p.copy_(new if skip is None else torch.where(skip, p, new))

    def _nesterov(self, p: nn.Parameter, momentum: float, skip: Tensor | None) -> Tensor:
        """Nesterov momentum: update the average gradient, and step once more along it.

        A skipped gradient changes nothing.
        """
        if "momentum" not in self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(p)
        average: Tensor = self.state[p]["momentum"]
        grad: Tensor = p.grad  # type: ignore[assignment]
        if skip is not None:
            grad = torch.where(skip, average, grad)
        average.lerp_(grad, 1 - momentum)
        return grad.lerp(average, momentum)

    def _step_adamw(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                zeros = (torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
                self.state[p].update(zip(("exp_avg", "exp_avg_sq", "step"), zeros))
        mean, square, step = (
            [self.state[p][key] for p in params] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        weights: list[Tensor] = list(params)
        gradients = [p.grad for p in params if p.grad is not None]
        beta1, beta2 = group["betas"]
        adamw_step(
            weights,
            gradients,
            mean,
            square,
            [],
            step,
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            found_inf=self.found_inf,
        )


def muon(model: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    """Muon for the matrices inside the blocks, AdamW for embeddings, head, norms and biases.

    It needs fewer tokens than AdamW for the same loss. `lr` is Muon's learning rate, 0.02 to 0.05;
    AdamW's is `ADAM_LR_SCALE` times that: the embedding of a rare token is seldom updated.
    """
    if cfg.decay != "matrices":
        raise UserError(
            f"decay={cfg.decay!r} has no effect on muon, which decays the matrices inside blocks;"
            " leave it out"
        )
    matrices, others = _parameters(model)
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    tables |= {
        id(p) for name, m in model.named_modules() if name == "out_head" for p in m.parameters()
    }
    inner = [p for p in matrices if id(p) not in tables]
    outer = [p for p in matrices if id(p) in tables]
    groups = [
        {"params": inner, "matrix": True, "weight_decay": cfg.weight_decay},
        {"params": outer, "lr_scale": ADAM_LR_SCALE, "weight_decay": 0.0},
        {"params": others, "lr_scale": ADAM_LR_SCALE, "weight_decay": 0.0},
    ]
    return Muon([g for g in groups if g["params"]], lr=cfg.lr, betas=cfg.betas)


ADAM_LR_SCALE = 0.7  # AdamW's learning rate as a share of Muon's

OPTIMIZERS: dict[str, Callable[[nn.Module, TrainConfig], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "muon": muon,
}
"""Name -> function of (model, settings) that makes an optimizer."""
