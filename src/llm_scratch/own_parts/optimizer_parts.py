"""Check a learner's AdamW and Muon against the package's, and train with them.

Tests: tests/own_parts/test_checks.py, tests/own_parts/test_use.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.config import TrainConfig
from llm_scratch.own_parts.verdict import OUTPUT, Verdict, compare
from llm_scratch.training.optim import Muon, orthogonalize

Update = Callable[..., Any]
"""`adamw(weight, gradient, memory, rate, keep, keep_square, decay)` or
`muon(weight, gradient, memory, rate, keep, decay)`: change the weight in place."""
SHAPES = (5, 3), (3, 5), (4, 4)
STEPS = 4


class OwnOptimizer(Muon):
    """`Muon` and AdamW, with the updates of a learner where there are some.

    What a learner's function keeps in `memory` is the optimizer's state: numbers become tensors, so
    that checkpoints have them.

    Args:
        made: the package's optimizer, for its groups.
        cfg: the settings.
        adamw, muon: the learner's functions; None: the package's.
    """

    _step_supports_amp_scaling = False  # a skipped step waits for the device

    def __init__(
        self,
        made: torch.optim.Optimizer,
        cfg: TrainConfig,
        adamw: Update | None = None,
        muon: Update | None = None,
    ) -> None:
        names = "params", "weight_decay", "matrix", "lr_scale"
        groups = [{k: group[k] for k in names if k in group} for group in made.param_groups]
        super().__init__(groups, cfg.lr, cfg.betas)
        self._adamw, self._muon = adamw, muon

    def _step_matrices(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        if self._muon is None:
            super()._step_matrices(params, group)
        else:
            self._step_each(self._muon, params, group, group["momentum"])

    def _step_adamw(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        if self._adamw is None:
            super()._step_adamw(params, group)
        else:
            self._step_each(self._adamw, params, group, *group["betas"])

    def _step_each(
        self, update: Update, params: list[nn.Parameter], group: dict[str, Any], *keep: float
    ) -> None:
        for p in params:
            if p.grad is None:
                continue
            gradient = p.grad.to_dense() if p.grad.is_sparse else p.grad
            memory = self.state[p]
            update(p, gradient, memory, group["lr"], *keep, group["weight_decay"])
            for name, value in memory.items():
                if not isinstance(value, Tensor):
                    memory[name] = torch.tensor(value, dtype=torch.float32, device=p.device)


def check_adamw(theirs: Update) -> Verdict:
    """Compare an `adamw`, over several steps."""
    return _check("adamw", theirs, ADAMW_MISTAKES)


def check_muon(theirs: Update) -> Verdict:
    """Compare a `muon`, over several steps."""
    return _check("muon", theirs, MUON_MISTAKES)


def _check(name: str, theirs: Update, mistakes: tuple[Update, ...]) -> Verdict:
    generator = torch.Generator().manual_seed(6)
    cases = [
        tuple(torch.randn(shape, generator=generator) for _ in range(STEPS + 1)) for shape in SHAPES
    ]
    package = _walk(name, None)
    mine = _walk(name, theirs)
    return compare(
        name,
        lambda *case: {OUTPUT: mine(*case)},
        lambda *case: {OUTPUT: package(*case)},
        cases,
        [_walk(name, mistake) for mistake in mistakes],
    )


def _walk(name: str, update: Update | None) -> Callable[..., Tensor | None]:
    """A function of a weight and its gradients: the weight after each step, [STEPS, rows, columns].

    Without an update it is the package's; None if nothing changes the weight.
    """

    def weights(start: Tensor, *gradients: Tensor) -> Tensor | None:
        weight = nn.Parameter(start.clone())
        cfg = TrainConfig(lr=0.03)
        group = {"params": [weight], "matrix": name == "muon", "weight_decay": 0.1}
        optimizer: torch.optim.Optimizer = Muon([group], cfg.lr, cfg.betas)
        if update is not None:
            optimizer = OwnOptimizer(optimizer, cfg, **{name: update})
        history = []
        for gradient in gradients:
            weight.grad = gradient
            optimizer.step()
            history.append(weight.detach().clone())
        return None if torch.equal(history[-1], start) else torch.stack(history)

    weights.__doc__ = update and update.__doc__
    return weights


def _moments(
    gradient: Tensor, memory: dict[str, Any], keep: float, keep_square: float
) -> tuple[Any, Any, Any]:
    """AdamW's averages of the gradient and of its square, and the number of the step."""
    memory["n"] = memory.get("n", 0) + 1
    memory["mean"] = keep * memory.get("mean", 0.0) + (1 - keep) * gradient
    memory["square"] = keep_square * memory.get("square", 0.0) + (1 - keep_square) * gradient**2
    return memory["mean"], memory["square"], memory["n"]


def _corrected(
    gradient: Tensor, memory: dict[str, Any], keep: float, keep_square: float
) -> tuple[Any, Any]:
    """The averages, corrected for their start at zero."""
    mean, square, n = _moments(gradient, memory, keep, keep_square)
    return mean / (1 - keep**n), square / (1 - keep_square**n)


def _uncorrected(w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float) -> None:
    """The averages start at zero, and nothing makes up for it: divide by 1 - keep**n."""
    mean, square, _ = _moments(g, memory, k, s)
    w.mul_(1 - rate * decay).sub_(rate * mean / (square.sqrt() + 1e-8))


def _decayed_gradient(
    w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float
) -> None:
    """The decay is added to the gradient, as in Adam; AdamW shrinks the weight itself."""
    mean, square = _corrected(g + decay * w, memory, k, s)
    w.sub_(rate * mean / (square.sqrt() + 1e-8))


def _no_root(w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float) -> None:
    """It divides by the average square; divide by its root."""
    mean, square = _corrected(g, memory, k, s)
    w.mul_(1 - rate * decay).sub_(rate * mean / (square + 1e-8))


def _uphill(w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float) -> None:
    """It walks uphill: subtract the step."""
    mean, square = _corrected(g, memory, k, s)
    w.mul_(1 - rate * decay).add_(rate * mean / (square.sqrt() + 1e-8))


def _adamw_no_decay(
    w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float
) -> None:
    """It equals the package's without weight decay: shrink the weight by rate * decay."""
    mean, square = _corrected(g, memory, k, s)
    w.sub_(rate * mean / (square.sqrt() + 1e-8))


def _decay_without_rate(
    w: Any, g: Any, memory: Any, rate: Any, k: float, s: float, decay: float
) -> None:
    """The weight decay is not multiplied by the learning rate."""
    mean, square = _corrected(g, memory, k, s)
    w.mul_(1 - decay).sub_(rate * mean / (square.sqrt() + 1e-8))


ADAMW_MISTAKES: tuple[Update, ...] = (
    _uncorrected,
    _decayed_gradient,
    _no_root,
    _uphill,
    _adamw_no_decay,
    _decay_without_rate,
)


def _ahead(gradient: Tensor, memory: dict[str, Any], keep: float) -> Tensor:
    """Nesterov momentum: the average gradient, and one step more along it."""
    memory["average"] = keep * memory.get("average", 0.0) + (1 - keep) * gradient
    return keep * memory["average"] + (1 - keep) * gradient


def _shape_factor(w: Tensor) -> float:
    return max(1, w.shape[0] / w.shape[1]) ** 0.5


def _exact(w: Any, g: Any, memory: Any, rate: Any, keep: float, decay: float) -> None:
    """It makes all sizes exactly 1; the package comes near it by four Newton-Schulz iterations
    (`orthogonalize` in training/optim.py), which is faster. This is a fine part to train with.
    """
    left, _, right = torch.linalg.svd(_ahead(g, memory, keep), full_matrices=False)
    w.mul_(1 - rate * decay).sub_(rate * _shape_factor(w) * left @ right)


def _plain_momentum(w: Any, g: Any, memory: Any, rate: Any, keep: float, decay: float) -> None:
    """It moves along the average gradient; the package steps once more along it (Nesterov)."""
    _ahead(g, memory, keep)
    w.mul_(1 - rate * decay).sub_(rate * _shape_factor(w) * orthogonalize(memory["average"]))


def _same_for_all_shapes(w: Any, g: Any, memory: Any, rate: Any, keep: float, decay: float) -> None:
    """A matrix of more rows than columns moves too little: multiply by the root of
    max(1, rows / columns).
    """
    w.mul_(1 - rate * decay).sub_(rate * orthogonalize(_ahead(g, memory, keep)))


def _not_orthogonal(w: Any, g: Any, memory: Any, rate: Any, keep: float, decay: float) -> None:
    """It moves along the average gradient itself; its directions must get equal sizes."""
    w.mul_(1 - rate * decay).sub_(rate * _shape_factor(w) * _ahead(g, memory, keep))


def _muon_no_decay(w: Any, g: Any, memory: Any, rate: Any, keep: float, decay: float) -> None:
    """It equals the package's without weight decay: shrink the weight by rate * decay."""
    w.sub_(rate * _shape_factor(w) * orthogonalize(_ahead(g, memory, keep)))


MUON_MISTAKES: tuple[Update, ...] = (
    _exact,
    _plain_momentum,
    _same_for_all_shapes,
    _not_orthogonal,
    _muon_no_decay,
)
