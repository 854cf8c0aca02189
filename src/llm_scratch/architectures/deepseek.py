"""Settings of DeepSeek-V3; the model is `model/deepseek.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.mixture import MixtureConfig
from llm_scratch.errors import UserError


@dataclass(frozen=True)
class DeepSeekConfig(MixtureConfig):
    """Settings of a DeepSeek-V3: latent attention, and mixtures with a shared expert.

    `head_dim` is the size of a head's keys without the rotated part. Sizes of latents that are None
    are those of DeepSeek-V2 relative to it (https://arxiv.org/abs/2405.04434, section 3.1.2).
    """

    not_inherited = frozenset({"n_kv_heads"})
    """latent attention has no shared heads"""

    architecture: str = field(default="deepseek", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    latent_dim: int | None = None
    """size of the vector that keys and values come from, which the cache keeps; None: 4 head_dim"""
    query_latent_dim: int | None = None
    """size of the vector that queries come from; None: they come from the residual stream"""
    rotated_dim: int | None = None
    """size of the rotated part of queries and keys; None: half of head_dim"""
    value_dim: int | None = None
    """size of a head's values; None: head_dim"""
    attention_bias: bool = False
    """bias in the projections from and to the residual stream"""
    score_scale: float = 1.0
    """factor of attention scores; above 1 with rope_scaling "yarn" """
    n_dense_layers: int = 1
    """first layers, whose feed-forward network is a plain one"""
    n_shared_experts: int = 1
    """experts that every token uses"""
    n_groups: int = 1
    """groups that the experts of a layer are divided into"""
    groups_per_token: int = 1
    """groups that a token may choose experts from"""
    normalize_weights: bool = True
    """divide the weights of the chosen experts by their sum"""
    weight_scale: float = 1.0
    """factor of the weights of the chosen experts"""
    balance_loss: float = 0.0001
    """coefficient of the loss that makes routers use all experts; 0: none"""
    balance_rate: float = 0.001
    """change of the routers' balancing bias in a step"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_kv_heads not in (None, self.n_heads):
            raise UserError(
                f"n_kv_heads={self.n_kv_heads}: latent attention has no shared heads; leave it out"
            )
        if self.rotated_size % 2:
            raise UserError(
                f"rotated_dim={self.rotated_size} is odd; rotary positions need an even size"
            )
        if self.n_experts % self.n_groups:
            raise UserError(
                f"n_groups={self.n_groups} does not divide n_experts={self.n_experts};"
                " choose a divisor"
            )
        open_experts = self.groups_per_token * (self.n_experts // self.n_groups)
        if not self.experts_per_token <= open_experts <= self.n_experts:
            raise UserError(
                f"groups_per_token={self.groups_per_token} of n_groups={self.n_groups} leave"
                f" {open_experts} experts to choose from; choose at least"
                f" experts_per_token={self.experts_per_token} of {self.n_experts}"
            )

    @property
    def latent_size(self) -> int:
        """R: size of the latent vector."""
        return self.latent_dim or 4 * self.head_size

    @property
    def rotated_size(self) -> int:
        """Size of the rotated part of queries and keys."""
        return self.rotated_dim or max(self.head_size // 4, 1) * 2

    @property
    def value_size(self) -> int:
        """Size of a head's values."""
        return self.value_dim or self.head_size

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer, with its norms."""
        C, H, R, Q = self.emb_dim, self.n_heads, self.latent_size, self.query_latent_dim
        key = H * (self.head_size + self.rotated_size)
        query = C * key if Q is None else C * Q + Q + Q * key
        latent = C * (R + self.rotated_size) + R + R * H * (self.head_size + self.value_size)
        biases = (Q or 0) + R + self.rotated_size + C
        return query + latent + H * self.value_size * C + self.attention_bias * biases

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        dense = min(self.n_dense_layers, self.n_layers)
        mixtures = self.n_layers - dense
        shared = self.n_shared_experts * self.expert_params
        plain = 3 * self.emb_dim * self.ff_size
        all_mixtures = super().n_params
        return all_mixtures + dense * (plain - self.feed_forward_params) + mixtures * shared
