"""Check a learner's LayerNorm, GELU and FeedForward against the package's.

Weights are random and the same on both sides; the values and all gradients are compared.
Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.architectures import GPTConfig
from llm_scratch.model.layers import GELU, FeedForward, LayerNorm, gelu
from llm_scratch.own_parts.verdict import OUTPUT, Outcome, PartError, Verdict, compare

WIDTH = 12
SHAPES = (2, 7, WIDTH), (3, 1, WIDTH)
"""[B, T, C] of the inputs: all sizes of one differ, so that an exchanged one shows."""
CONFIG = GPTConfig(vocab_size=31, context_length=9, emb_dim=WIDTH, n_heads=3, drop_rate=0.0)
Mistake = Callable[[Any, Tensor], Tensor]
"""(the package's module, x) -> the output of a module with a common mistake"""


def check_module(
    part: str,
    theirs: Callable[[], nn.Module],
    ours: Callable[[], nn.Module],
    inputs: Sequence[Tensor],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """Compare two modules of equal weights, forward and backward.

    Args:
        part: its name.
        theirs, ours: make the modules.
        inputs: of the modules.
        mistakes: as `compare`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = ours().eval()
        for parameter in reference.parameters():
            nn.init.normal_(parameter, 0.1, 0.5)
    return compare(
        part,
        lambda x: forward_and_backward(with_weights_of(reference, theirs), x, reference),
        lambda x: forward_and_backward(reference, x, reference),
        [(x,) for x in inputs],
        [_of_module(mistake, reference) for mistake in mistakes],
    )


def _of_module(mistake: Mistake, reference: nn.Module) -> Callable[[Tensor], Tensor]:
    def output(x: Tensor) -> Tensor:
        with torch.no_grad():
            return mistake(reference, x)

    output.__doc__ = mistake.__doc__
    return output


def with_weights_of(reference: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a module with the weights of `reference`, matched by name and shape.

    The global random generator is left as it was; buffers are not saved in checkpoints.
    """
    with torch.random.fork_rng(devices=[]):
        module = make()
    weights = dict(reference.named_parameters())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in weights and weights[name].shape == parameter.shape:
                parameter.copy_(weights[name])
    for inner in module.modules():
        inner._non_persistent_buffers_set.update(inner._buffers)
    return module.train(reference.training)


def forward_and_backward(module: nn.Module, x: Tensor, reference: nn.Module) -> Outcome:
    """The output of a module for x, and the gradients of x and of each weight.

    Raises:
        PartError: the output is not a tensor, or the weights have other names or shapes than
            those of `reference`.
    """
    x.requires_grad_()
    y = module(x)
    if y is None or y is ...:
        return {OUTPUT: y}
    if not isinstance(y, Tensor):
        raise PartError(f"it gives a {type(y).__name__}; return a tensor")
    expected = {name: tuple(p.shape) for name, p in reference.named_parameters()}
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if shapes != expected:
        raise PartError(
            f"its weights are {_listed(shapes)}; expected, in any order: {_listed(expected)}"
        )
    if y.requires_grad:
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y))
    gradients = {
        "gradient of x": x,
        **{f"gradient of {n}": p for n, p in module.named_parameters()},
    }
    outcome = {OUTPUT: y.detach()} | {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in gradients.items()
    }
    module.zero_grad()
    return outcome


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"


def random_inputs(seed: int) -> list[Tensor]:
    """Inputs of `SHAPES`; the first token of each has tiny values, so that an eps matters."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(shape, generator=generator) for shape in SHAPES]
    for x in inputs:
        x[0, 0] /= 300
    return inputs


def check_layer_norm(cls: Any) -> Verdict:
    """Compare a `LayerNorm(emb_dim)`."""
    make = (lambda: cls(WIDTH)), (lambda: LayerNorm(WIDTH))
    return check_module("LayerNorm", *make, random_inputs(1), NORM_MISTAKES)


def check_gelu(cls: Any) -> Verdict:
    """Compare a `GELU()`."""
    inputs = [3 * x for x in random_inputs(2)]
    return check_module("GELU", lambda: cls(), GELU, inputs, GELU_MISTAKES)


def check_feed_forward(cls: Any) -> Verdict:
    """Compare a `FeedForward(cfg)`."""
    make = (lambda: cls(CONFIG)), (lambda: FeedForward(CONFIG))
    return check_module("FeedForward", *make, random_inputs(3), FEED_FORWARD_MISTAKES)


def _moments(x: Tensor, dim: int = -1, correction: int = 0) -> tuple[Tensor, Tensor]:
    return x.mean(dim, keepdim=True), x.var(dim, keepdim=True, correction=correction)


def _sample_variance(m: Any, x: Tensor) -> Tensor:
    """It divides the variance by n - 1; layer norm divides by n (unbiased=False)."""
    if x.shape[-1] < 2:
        return x
    mean, variance = _moments(x, correction=1)
    return m.scale * (x - mean) / (variance + m.eps).sqrt() + m.shift


def _eps_outside(m: Any, x: Tensor) -> Tensor:
    """It adds eps to the standard deviation; it belongs to the variance, below the root."""
    mean, variance = _moments(x)
    return m.scale * (x - mean) / (variance.sqrt() + m.eps) + m.shift


def _no_eps(m: Any, x: Tensor) -> Tensor:
    """The eps below the root is missing."""
    mean, variance = _moments(x)
    return m.scale * (x - mean) / variance.sqrt() + m.shift


def _no_scale(m: Any, x: Tensor) -> Tensor:
    """It equals the package's without the scale."""
    mean, variance = _moments(x)
    return (x - mean) / (variance + m.eps).sqrt() + m.shift


def _no_shift(m: Any, x: Tensor) -> Tensor:
    """It equals the package's without the shift."""
    mean, variance = _moments(x)
    return m.scale * (x - mean) / (variance + m.eps).sqrt()


def _no_scale_and_shift(m: Any, x: Tensor) -> Tensor:
    """It normalizes, but scale and shift are missing."""
    mean, variance = _moments(x)
    return (x - mean) / (variance + m.eps).sqrt()


def _no_mean(m: Any, x: Tensor) -> Tensor:
    """The mean is not subtracted."""
    return m.scale * x / (_moments(x)[1] + m.eps).sqrt() + m.shift


def _no_root(m: Any, x: Tensor) -> Tensor:
    """It divides by the variance; divide by its root."""
    mean, variance = _moments(x)
    return m.scale * (x - mean) / (variance + m.eps) + m.shift


def _over_tokens(m: Any, x: Tensor) -> Tensor:
    """It normalizes over the tokens (dim=1); each token is normalized by itself, over dim=-1."""
    mean, variance = _moments(x, dim=1)
    return m.scale * (x - mean) / (variance + m.eps).sqrt() + m.shift


def _rms_norm(m: Any, x: Tensor) -> Tensor:
    """It is RMSNorm: no mean is subtracted, neither here nor in the variance."""
    return m.scale * x / (x.square().mean(-1, keepdim=True) + m.eps).sqrt() + m.shift


NORM_MISTAKES: tuple[Mistake, ...] = (
    _sample_variance,
    _eps_outside,
    _no_eps,
    _no_scale,
    _no_shift,
    _no_scale_and_shift,
    _no_mean,
    _no_root,
    _over_tokens,
    _rms_norm,
)


def _exact_gelu(m: Any, x: Tensor) -> Tensor:
    """It is the exact GELU; GPT-2 has the tanh form (approximate="tanh")."""
    return F.gelu(x)


def _sigmoid_gelu(m: Any, x: Tensor) -> Tensor:
    """It is the sigmoid form, x * sigmoid(1.702 x); GPT-2 has the tanh form."""
    return x * torch.sigmoid(1.702 * x)


def _relu(m: Any, x: Tensor) -> Tensor:
    """It is ReLU, which has a corner at 0."""
    return x.relu()


def _silu(m: Any, x: Tensor) -> Tensor:
    """It is SiLU, x * sigmoid(x)."""
    return F.silu(x)


def _not_halved(m: Any, x: Tensor) -> Tensor:
    """It is twice as large: the factor 0.5 is missing."""
    return 2 * gelu(x)


def _no_root_of_two_over_pi(m: Any, x: Tensor) -> Tensor:
    """The root of 2 / pi is missing: it multiplies by 2 / pi itself."""
    return 0.5 * x * (1 + torch.tanh(2 / torch.pi * (x + 0.044715 * x**3)))


def _square(m: Any, x: Tensor) -> Tensor:
    """It has x squared where x to the third belongs."""
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**2)))


GELU_MISTAKES: tuple[Mistake, ...] = (
    _exact_gelu,
    _sigmoid_gelu,
    _relu,
    _silu,
    _not_halved,
    _no_root_of_two_over_pi,
    _square,
)


def _linear(m: Any, x: Tensor) -> Tensor:
    """The activation between the two layers is missing, so both together are one linear layer."""
    return m.layers[2](m.layers[0](x))


def _relu_inside(m: Any, x: Tensor) -> Tensor:
    """Its activation is ReLU; GPT-2 has GELU."""
    return m.layers[2](m.layers[0](x).relu())


def _exact_gelu_inside(m: Any, x: Tensor) -> Tensor:
    """Its activation is the exact GELU; GPT-2 has the tanh form (approximate="tanh")."""
    return m.layers[2](F.gelu(m.layers[0](x)))


def _activated_twice(m: Any, x: Tensor) -> Tensor:
    """There is an activation after the second layer too."""
    return gelu(m(x))


def _without_biases(m: Any, x: Tensor) -> Tensor:
    """It equals the package's without the biases."""
    return F.linear(gelu(F.linear(x, m.layers[0].weight)), m.layers[2].weight)


def _with_shortcut(m: Any, x: Tensor) -> Tensor:
    """It adds its input; the shortcut belongs to the block."""
    return x + m(x)


FEED_FORWARD_MISTAKES: tuple[Mistake, ...] = (
    _linear,
    _relu_inside,
    _exact_gelu_inside,
    _activated_twice,
    _without_biases,
    _with_shortcut,
)
