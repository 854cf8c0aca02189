"""Settings of the GPT-2 architecture; the model is `model/gpt.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llm_scratch.architectures.base import Init, ModelConfig, check_heads

Activation = Literal["gelu_tanh", "gelu", "relu", "silu"]


@dataclass(frozen=True)
class GPTConfig(ModelConfig):
    """Settings of a GPT-2. The defaults are those of GPT-2 "small", with the notebooks' choices.

    The first seven fields after `architecture` are the keys of the notebooks' dict.
    """

    architecture: str = field(default="gpt", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    qkv_bias: bool = False
    """bias in the query, key and value projections (GPT-2's weights have one)"""
    tie_embeddings: bool = False
    """share the token embedding with the output head (as GPT-2 does; saves V x C parameters)"""
    init: Init = "torch"
    """weight initialization: "torch" as in the notebooks, "gpt2" normal(0, 0.02),
    "mimetic" also lets attention copy from the start
    """
    ff_dim: int | None = None
    """F: width of the feed-forward network; None: 4 emb_dim"""
    activation: Activation = "gelu_tanh"
    """activation of the feed-forward network: "gelu_tanh" as in GPT-2,
    "gelu" the exact one, as in nanoGPT and litgpt
    """
    norm_eps: float = 1e-5
    """added to the variance in layer norms"""
    scale_attention_by_layer: bool = False
    """divide attention scores by the number of the layer, from 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self)

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        C, V, F = self.emb_dim, self.vocab_size, self.ff_dim or 4 * self.emb_dim
        embeddings = V * C * (1 if self.tie_embeddings else 2) + self.context_length * C
        attention = 3 * (C * C + C * self.qkv_bias) + (C * C + C)
        feed_forward = 2 * C * F + F + C
        norm = 2 * C
        return embeddings + self.n_layers * (attention + feed_forward + 2 * norm) + norm
