"""Mixture of experts: many feed-forward networks, of which each token uses the few that fit it.

A router gives each of E experts a score, the K highest are chosen, and their outputs are added by
weight. The parameters grow with E, the work of a token only with K:

    s = softmax(W x)  or  sigmoid(W x)          scores, [E]
    chosen = the K largest of s + bias          the bias moves choices, not weights
    y = scale sum_chosen w_e expert_e(x),       w = s, or s / sum_chosen s

A router left alone sends all tokens to a few experts. Two remedies, both here: a loss that grows
with imbalance (`balance_loss`), and a bias that is raised after each step for experts with too few
tokens and lowered for those with too many, without a gradient (`Router.after_step`).

With one expert and K = 1 it is the plain feed-forward network.
Tests: tests/model/test_mixture.py (equal to a sum over all experts, and to transformers).
Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538; balancing by a loss, Switch
Transformer, Fedus et al. 2021, https://arxiv.org/abs/2101.03961, section 2.2; by a bias, Wang et
al. 2024, https://arxiv.org/abs/2408.15664; groups and the loss per sequence, DeepSeek-V3, 2024,
https://arxiv.org/abs/2412.19437, section 2.1.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from llm_scratch.model.delta_rule import without_autocast
from llm_scratch.model.training_hooks import TrainingHooks


class Routing(NamedTuple):
    """How a router chooses."""

    n_experts: int
    """E"""
    n_chosen: int
    """K: experts of each token"""
    scores: Literal["softmax", "sigmoid"] = "softmax"
    """of the router's logits"""
    normalize: bool = True
    """divide the weights of the chosen experts by their sum"""
    scale: float = 1.0
    """factor of all weights"""
    n_groups: int = 1
    """groups that the experts are divided into"""
    n_chosen_groups: int = 1
    """groups that a token may choose from: those with the highest sums of their two best scores"""
    logit_bias: bool = False
    """whether the router's logits have a learned bias"""
    balance_loss: float = 0.0
    """coefficient of the loss for imbalance"""
    balance_rate: float | None = None
    """change of the balancing bias in a step; None: no such bias"""


class RouterLinear(nn.Module):
    """The router's logits, [..., C] -> [..., E]; not an `nn.Linear`, so that it is not quantized.

    A small error in a logit sends a token to another expert, and the matrix is small.
    """

    def __init__(self, emb_dim: int, n_experts: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_experts, emb_dim).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(n_experts)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute x W^T + bias, in float32, under autocast too."""
        bias = None if self.bias is None else self.bias.float()
        with without_autocast(x.device.type):
            return F.linear(x.float(), self.weight.float(), bias)


class Router(TrainingHooks):
    """Chooses the experts of each token. [B, T, C] -> weights and experts, both [B, T, K].

    Args:
        emb_dim: C.
        routing: how it chooses.
    Attributes:
        balance_bias: [E], added to the scores for the choice; None: no such bias.
        load: [E], tokens of each expert since the last step; None: none yet.
    """

    balance_bias: Tensor | None

    def __init__(self, emb_dim: int, routing: Routing) -> None:
        super().__init__()
        self.routing = routing
        self.linear = RouterLinear(emb_dim, routing.n_experts, routing.logit_bias)
        bias = None if routing.balance_rate is None else torch.zeros(routing.n_experts)
        self.register_buffer("balance_bias", bias)
        self.load: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights, in the type of x, and indices of the chosen experts."""
        routing = self.routing
        logits = self.linear(x)
        scores = logits.softmax(-1) if routing.scores == "softmax" else logits.sigmoid()
        chosen = choose(scores.detach(), self.balance_bias, routing)
        weights = scores.gather(-1, chosen)
        if routing.normalize:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        if self.training:
            self._balance(scores, chosen)
        return (weights * routing.scale).to(x.dtype), chosen

    def _balance(self, scores: Tensor, chosen: Tensor) -> None:
        """Note what balances the experts: the loss, and how many tokens each got."""
        counted = self.counted
        if counted is not None and counted.shape != chosen.shape[:-1]:
            counted = None  # a user's own loss may run the model on other tokens
        if self.routing.balance_loss:
            loss = balance_loss(scores, chosen, counted)
            self.extra_loss = self.routing.balance_loss * loss
        if self.balance_bias is not None:
            load = _counts(chosen, scores.shape[-1], counted).sum(0)
            self.load = load if self.load is None else self.load + load

    @torch.no_grad()
    def after_step(self, good: Tensor, all_reduce_mean: Callable[[Tensor], Tensor]) -> None:
        """Raise the bias of experts with fewer tokens than the mean, lower that of the others.

        Activation checkpointing counts every token twice, which leaves the signs as they are.
        """
        if self.load is None or self.balance_bias is None:
            return
        load = all_reduce_mean(self.load)
        rate = self.routing.balance_rate or 0.0
        self.balance_bias += rate * (load.mean() - load).sign() * good
        self.load = None


def choose(scores: Tensor, bias: Tensor | None, routing: Routing) -> Tensor:
    """The K experts of each token with the highest scores: [..., E] -> [..., K].

    Args:
        scores: of all experts.
        bias: [E], added first; None: 0.
        routing: with groups, only experts of the best groups can be chosen.
    """
    scores = scores if bias is None else scores + bias
    if routing.n_groups > 1:
        groups = scores.unflatten(-1, (routing.n_groups, -1))
        best = groups.topk(min(2, groups.shape[-1]), -1).values.sum(-1)
        kept = best.topk(routing.n_chosen_groups, -1).indices
        closed = torch.ones_like(best, dtype=torch.bool).scatter(-1, kept, False)
        scores = groups.masked_fill(closed[..., None], float("-inf")).flatten(-2)
    return scores.topk(routing.n_chosen, -1).indices


def balance_loss(scores: Tensor, chosen: Tensor, counted: Tensor | None = None) -> Tensor:
    """Imbalance of each sequence, summed over its tokens: a scalar; 1 a token if balanced.

    E sum_e f_e p_e for a sequence, with f_e its share of choices for expert e and p_e the mean of
    the expert's normalized score. It is taken for each sequence, so that micro-batches add up to
    one batch.

    Args:
        scores: [B, T, E].
        chosen: [B, T, K].
        counted: [B, T], which tokens count; None: all.
    """
    E, K = scores.shape[-1], chosen.shape[-1]
    probabilities = scores / scores.sum(-1, keepdim=True)
    if counted is None:
        counted = torch.ones_like(chosen[..., 0])
    n_tokens = counted.sum(1, keepdim=True).clamp(min=1)  # [B, 1]
    share = _counts(chosen, E, counted) / (K * n_tokens)
    return E * (share * (probabilities * counted[..., None]).sum(1)).sum()


def _counts(chosen: Tensor, n_experts: int, counted: Tensor | None) -> Tensor:
    """How many of a row's tokens chose each expert: [B, T, K] -> [B, E]; as in `balance_loss`."""
    weights = torch.ones_like(chosen) if counted is None else counted[..., None].expand_as(chosen)
    counts = torch.zeros(len(chosen), n_experts, device=chosen.device)
    return counts.scatter_add_(1, chosen.flatten(1), weights.flatten(1).to(counts.dtype))


class MixtureOfExperts(nn.Module):
    """Feed-forward network of E experts, of which each token uses K. [B, T, C] -> [B, T, C].

    Args:
        emb_dim: C.
        routing: how experts are chosen.
        expert: makes an expert, `[N, C] -> [N, C]`.
        shared: an expert that every token uses with weight 1, or None.
        shared_gate: the shared expert's weight is sigmoid(w x) instead.
    """

    def __init__(
        self,
        emb_dim: int,
        routing: Routing,
        expert: Callable[[], nn.Module],
        shared: nn.Module | None = None,
        shared_gate: bool = False,
    ) -> None:
        super().__init__()
        self.router = Router(emb_dim, routing)
        self.experts = nn.ModuleList(expert() for _ in range(routing.n_experts))
        self.shared = shared
        self.shared_gate = nn.Linear(emb_dim, 1, bias=False) if shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the outputs of the chosen experts, and of the shared one."""
        weights, chosen = self.router(x)
        y = mix(x, weights, chosen, list(self.experts), self.training)  # [B, T, C]
        if self.shared is None:
            return y
        shared = self.shared(x)  # [B, T, C]
        return y + (shared if self.shared_gate is None else self.shared_gate(x).sigmoid() * shared)


def mix(
    x: Tensor, weights: Tensor, chosen: Tensor, experts: Sequence[nn.Module], all_experts: bool
) -> Tensor:
    """Weighted sum of the chosen experts: each runs once, on all of its tokens.

    Args:
        x: [..., C].
        weights, chosen: [..., K].
        experts: E of them.
        all_experts: also run those without tokens, so that each has a gradient, as wrappers for
            several processes expect.
    """
    K = chosen.shape[-1]
    flat = chosen.flatten()
    order = flat.argsort(stable=True)  # groups the K N choices by expert
    rows = x.reshape(-1, x.shape[-1])[order // K]
    parts = zip(experts, rows.split(_sizes(flat, len(experts))))
    outputs = torch.cat([expert(part) for expert, part in parts if all_experts or len(part)])
    y = outputs[order.argsort()].view(*chosen.shape, -1)  # by token again, then by choice
    return (weights[..., None, :] @ y)[..., 0, :]


def _sizes(chosen: Tensor, n_experts: int) -> list[int]:
    """How many tokens each expert has; tensors without values, for plans, have equal shares."""
    planned = chosen.is_meta or isinstance(chosen, FakeTensor)
    if planned and not torch.compiler.is_compiling():
        share, remainder = divmod(len(chosen), n_experts)
        return [share + (e < remainder) for e in range(n_experts)]
    return torch.bincount(chosen, minlength=n_experts).tolist()
