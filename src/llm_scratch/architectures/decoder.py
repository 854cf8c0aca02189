"""Settings that all families after GPT-2 share; their models' parts are in `model/decoder.py`.

Tests: tests/architectures/test_configs.py, and those of each family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_scratch.architectures.base import Init, ModelConfig
from llm_scratch.errors import UserError

RopeScaling = Literal["none", "linear", "ntk", "llama3", "yarn"]


@dataclass(frozen=True)
class DecoderConfig(ModelConfig):
    """Settings of a decoder with rotary positions, RMSNorm, grouped heads and a gated network."""

    drop_rate: float = 0.0
    """dropout rate during training; the published models have none"""
    n_kv_heads: int | None = None
    """G: key/value heads per layer, each shared by n_heads / n_kv_heads query heads;
    None: n_heads
    """
    head_dim: int | None = None
    """D: size of a head; None: emb_dim / n_heads"""
    ff_dim: int | None = None
    """F: width of the gated feed-forward network;
    None: 8/3 emb_dim, rounded up to a multiple of 32
    """
    norm_eps: float = 1e-6
    """added to the mean square in norms"""
    tie_embeddings: bool = False
    """share the token embedding with the output head (saves V x C parameters)"""
    init: Init = "gpt2"
    """weight initialization: "torch" PyTorch's own, "gpt2" normal(0, 0.02), "mimetic" also lets
    attention copy from the start
    """
    rope_base: float = 10_000.0
    """base of the rotary frequencies; larger for longer contexts"""
    rope_scaling: RopeScaling = "none"
    """how rotary frequencies are lowered for a context longer than trained on"""
    rope_factor: float = 1.0
    """of rope_scaling: how many times longer"""
    rope_trained_context: int | None = None
    """of rope_scaling "llama3" and "yarn": context before it was made longer;
    None: context_length
    """
    rope_low_freq: float = 1.0
    """of rope_scaling "llama3": turns in the trained context below which a pair is slowed down"""
    rope_high_freq: float = 4.0
    """of rope_scaling "llama3": turns above which a pair is kept"""
    rope_beta_slow: float = 1.0
    """of rope_scaling "yarn": turns below which a pair is slowed down"""
    rope_beta_fast: float = 32.0
    """of rope_scaling "yarn": turns above which a pair is kept"""
    rope_attention_factor: float | None = None
    """of rope_scaling "yarn": factor of queries and keys; None: 0.1 ln(rope_factor) + 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        C, H, G = self.emb_dim, self.n_heads, self.kv_heads
        if self.head_dim is None and C % H:
            raise UserError(
                f"emb_dim={C} is not a multiple of n_heads={H};"
                f" try emb_dim={max(C // H, 1) * H}, or set head_dim"
            )
        if H % G:
            raise UserError(f"n_kv_heads={G} does not divide n_heads={H}; choose a divisor")
        if self.head_size % 2:
            raise UserError(
                f"head_dim: a head size of {self.head_size} is odd;"
                " rotary positions need an even one"
            )
        if self.rope_high_freq <= self.rope_low_freq:
            raise UserError(
                f"rope_high_freq={self.rope_high_freq:g} is not above"
                f" rope_low_freq={self.rope_low_freq:g}; raise it"
            )

    @property
    def kv_heads(self) -> int:
        """G: key/value heads."""
        return self.n_kv_heads or self.n_heads

    @property
    def head_size(self) -> int:
        """D: size of a head."""
        return self.head_dim or self.emb_dim // self.n_heads

    @property
    def rotated_size(self) -> int:
        """Part of a head that is rotated: all of it."""
        return self.head_size

    @property
    def ff_size(self) -> int:
        """F: width of the feed-forward network."""
        return self.ff_dim or -(-8 * self.emb_dim // 96) * 32

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer; None: it attends to all tokens."""
        return [None] * self.n_layers

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer: four matrices without biases."""
        return 2 * self.emb_dim * (self.n_heads + self.kv_heads) * self.head_size

    @property
    def qkv_bias_params(self) -> int:
        """Parameters of the biases of queries, keys and values, in families that have them."""
        return (self.n_heads + 2 * self.kv_heads) * self.head_size

    @property
    def feed_forward_params(self) -> int:
        """Parameters of the feed-forward network of a layer: three matrices."""
        return 3 * self.emb_dim * self.ff_size

    @property
    def norm_params(self) -> int:
        """Parameters of the norms of a block: two of size C."""
        return 2 * self.emb_dim

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        C = self.emb_dim
        embeddings = self.vocab_size * C * (1 if self.tie_embeddings else 2)
        block = self.attention_params + self.feed_forward_params + self.norm_params
        return embeddings + self.n_layers * block + C


def mixed_windows(n_layers: int, window: int | None, full_every: int | None) -> list[int | None]:
    """The window in every layer, except every n-th, which attends to all tokens."""
    windows = [window] * n_layers
    if full_every is not None:
        windows[full_every - 1 :: full_every] = [None] * (n_layers // full_every)
    return windows
