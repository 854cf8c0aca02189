"""Ablation and activation patching: replace a part of a computation, and measure what follows.

A `Part` is a head, a feed-forward network, a position or a direction of the residual stream.
`ablate` removes it (zero), replaces it by its mean over other text (mean), or by its value on
another text (resample). Where removing a part breaks a prediction, the part was needed for it.
`activation_patching` puts the activations of one prompt into the run of another, part by part;
`attribution_patching` estimates all those effects by one gradient.
Tests: tests/interpretability/test_patching.py (ablation equals a model with those weights set to
zero; the two ways of patching agree on small changes).
Source: activation patching, Meng et al. 2022, https://arxiv.org/abs/2202.05262; resampling,
Chan et al. 2022, "Causal Scrubbing"; attribution patching, Nanda 2023,
https://www.neelnanda.io/mechanistic-interpretability/attribution-patching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import Edit, capture, patch

Metric = Callable[[Tensor], Tensor]
"""logits [B, T, V] -> a scalar, such as the logit of an answer minus that of another"""


class Part(NamedTuple):
    """A part of an activation: how it is read, and how it is replaced.

    Attributes:
        name: of the activation, as in `capture`.
        read: activation -> the part's value.
        write: (activation, value) -> a new activation with that value.
    """

    name: str
    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Tensor], Tensor]


def head(layer: int, head: int) -> Part:
    """An attention head: what it mixes from other tokens, before the output matrix."""
    return _indexed(f"blocks.{layer}.attn.hook_z", (slice(None), slice(None), head))


def feed_forward(layer: int) -> Part:
    """The feed-forward network of a block: what it adds to the residual stream."""
    return _indexed(f"blocks.{layer}.hook_mlp_out", (...,))


def position(name: str, position: int) -> Part:
    """One position of an activation [B, T, ...], such as `blocks.1.hook_resid_pre`."""
    return _indexed(name, (slice(None), position))


def direction(name: str, vector: Tensor) -> Part:
    """The component of an activation [..., C] along a vector [C], at all positions."""
    unit = vector / vector.norm()

    def write(x: Tensor, value: Tensor) -> Tensor:
        return x + (value - x @ unit)[..., None] * unit

    return Part(name, lambda x: x @ unit, write)


def _indexed(name: str, index: tuple[Any, ...]) -> Part:
    def write(x: Tensor, value: Tensor) -> Tensor:
        x = x.clone()
        x[index] = value
        return x

    return Part(name, lambda x: x[index], write)


@contextmanager
def ablate(
    model: nn.Module,
    *parts: Part,
    by: Literal["zero", "mean", "resample"] = "zero",
    reference: Tensor | None = None,
) -> Iterator[None]:
    """Ablate parts of a model in the forward passes inside the block.

    Args:
        model: a plain model in eval mode.
        parts: what to ablate, such as `head(1, 3)`.
        by: "zero", or a value from `reference`: "mean" over its rows and positions, or "resample",
            the value at the same row and position.
        reference: ids [B, T]; for "resample", of the shape of the ids that the model will read.
    Raises:
        UserError: a reference is missing or without effect, or as `capture`.

    Example:
        with ablate(model, head(1, 3)):
            loss_without = next_token_loss(model(ids), targets)
    """
    if by != "zero" and reference is None:
        raise UserError(f"ablation: by={by!r} needs a reference; pass ids")
    if by == "zero" and reference is not None:
        raise UserError("ablation: by='zero' takes no reference; leave it out")
    values = {} if reference is None else activations_of(model, reference, parts)

    def value(part: Part, x: Tensor) -> Tensor:
        if by == "zero":
            return torch.zeros_like(part.read(x))
        other = values[part.name]
        return part.read(other if by == "resample" else other.mean((0, 1)).expand_as(x))

    with replace_parts(model, parts, value):
        yield


@contextmanager
def replace_parts(
    model: nn.Module, parts: Sequence[Part], value: Callable[[Part, Tensor], Tensor]
) -> Iterator[None]:
    """Replace parts in the block's forward passes: `value` is (part, activation) -> new value."""

    def edit(name: str) -> Edit:
        def replace(x: Tensor) -> Tensor:
            for part in parts:
                x = part.write(x, value(part, x)) if part.name == name else x
            return x

        return replace

    with patch(model, {part.name: edit(part.name) for part in parts}):
        yield


def activations_of(model: nn.Module, ids: Tensor, parts: Sequence[Part]) -> Mapping[str, Tensor]:
    """The activations of the parts on a text [B, T]: name -> tensor without gradients."""
    with torch.no_grad(), capture(model, *{part.name for part in parts}) as acts:
        model(ids)
    return acts


def activation_patching(
    model: nn.Module, ids: Tensor, source_ids: Tensor, parts: Sequence[Part], metric: Metric
) -> Tensor:
    """Activation patching: the change of a metric when a part takes its value from another prompt.

    One forward pass per part. A part with a large effect carries what the prompts differ in.

    Args:
        model: a plain model in eval mode.
        ids: [B, T], the prompt that is run.
        source_ids: [B, T], the prompt that the parts' values come from.
        parts: what to patch, one at a time.
        metric: a scalar of the logits.
    Returns:
        One change per part, [N].
    """
    source = activations_of(model, source_ids, parts)
    with torch.no_grad():
        plain = metric(model(ids))
        changes = []
        for part in parts:
            with replace_parts(model, [part], lambda part, x: part.read(source[part.name])):
                changes.append(metric(model(ids)) - plain)
    return torch.stack(changes)


def attribution_patching(
    model: nn.Module, ids: Tensor, source_ids: Tensor, parts: Sequence[Part], metric: Metric
) -> Tensor:
    """Attribution patching: `activation_patching` to first order, by one backward pass.

    The estimate is the gradient of the metric times the change of the activation. It is good for
    small changes; softmax and norms make it poor for large ones, such as those of a whole layer.
    """
    source = activations_of(model, source_ids, parts)
    names = list(dict.fromkeys(part.name for part in parts))
    first = "blocks.0.hook_resid_pre"

    def begin(x: Tensor) -> Tensor:
        return x.detach().requires_grad_()  # gradients begin here, for frozen weights too

    with torch.enable_grad(), patch(model, {first: begin}), capture(model, *names) as acts:
        result = metric(model(ids))
    gradients = dict(
        zip(names, torch.autograd.grad(result, [acts[name] for name in names]), strict=True)
    )
    estimates = []
    for part in parts:
        x = acts[part.name].detach()
        change = part.write(x, part.read(source[part.name])) - x
        estimates.append((gradients[part.name] * change).sum())
    return torch.stack(estimates)


def swap_tokens(ids: Tensor, swaps: Mapping[int, int]) -> Tensor:
    """A copy of ids [B, T] with other tokens at some positions: position -> token."""
    ids = ids.clone()
    for where, token in swaps.items():
        ids[:, where] = token
    return ids
