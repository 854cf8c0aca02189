"""Settings of Qwen3-Next; the model is `model/qwen_next.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.mixture import MixtureConfig
from llm_scratch.errors import UserError


@dataclass(frozen=True)
class QwenNextConfig(MixtureConfig):
    """Settings of a Qwen3-Next: layers with a gated delta rule, and every few one with attention.

    `head_dim` and `n_kv_heads` are those of the attention layers.
    """

    architecture: str = field(default="qwen_next", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    full_every: int = 4
    """every n-th layer is attention, the others follow the delta rule"""
    rotated_dim: int | None = None
    """part of a head that is rotated; None: a quarter"""
    n_key_heads: int | None = None
    """heads of queries and keys in delta-rule layers; None: n_heads"""
    n_value_heads: int | None = None
    """heads of values in delta-rule layers, a multiple of n_key_heads; None: n_key_heads"""
    key_dim: int | None = None
    """size of a key in delta-rule layers; None: head_dim"""
    value_dim: int | None = None
    """size of a value in delta-rule layers; None: head_dim"""
    conv_size: int = 4
    """tokens that the convolution of delta-rule layers mixes"""
    shared_dim: int | None = None
    """width of the expert that every token uses; None: as the others"""
    normalize_weights: bool = True
    """divide the weights of the chosen experts by their sum"""
    attention_bias: bool = False
    """bias in the projections of attention layers"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_heads % self.key_heads:
            raise UserError(
                f"n_value_heads={self.value_heads} is not a multiple of"
                f" n_key_heads={self.key_heads}; change one of them"
            )
        if self.rotated_size % 2 or self.rotated_size > self.head_size:
            raise UserError(
                f"rotated_dim={self.rotated_size} does not fit a head of {self.head_size};"
                " choose an even size, at most as large"
            )

    @property
    def rotated_size(self) -> int:
        """Part of a head that is rotated."""
        return self.rotated_dim or max(self.head_size // 8, 1) * 2

    @property
    def key_heads(self) -> int:
        """Heads of queries and keys in delta-rule layers."""
        return self.n_key_heads or self.n_heads

    @property
    def value_heads(self) -> int:
        """Heads of values in delta-rule layers."""
        return self.n_value_heads or self.key_heads

    @property
    def key_size(self) -> int:
        """Size of a key in delta-rule layers."""
        return self.key_dim or self.head_size

    @property
    def value_size(self) -> int:
        """Size of a value in delta-rule layers."""
        return self.value_dim or self.head_size

    @property
    def shared_size(self) -> int:
        """Width of the shared expert."""
        return self.shared_dim or self.expert_size

    @property
    def attention_params(self) -> int:
        """Parameters of an attention layer, with its gate and the norms of queries and keys."""
        C, D, width = self.emb_dim, self.head_size, self.n_heads * self.head_size
        biases = 2 * width + 2 * self.kv_heads * D + C
        return super().attention_params + C * width + 2 * D + self.attention_bias * biases

    @property
    def delta_params(self) -> int:
        """Parameters of a delta-rule layer."""
        C, heads = self.emb_dim, self.value_heads
        keys, values = self.key_heads * self.key_size, heads * self.value_size
        projections = C * (2 * keys + 3 * values + 2 * heads)
        return projections + (2 * keys + values) * self.conv_size + 2 * heads + self.value_size

    @property
    def feed_forward_params(self) -> int:
        """Parameters of the mixture of a layer, with the shared expert and its gate."""
        return super().feed_forward_params + 3 * self.emb_dim * self.shared_size + self.emb_dim

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        deltas = self.n_layers - self.n_layers // self.full_every
        return super().n_params + deltas * (self.delta_params - self.attention_params)
