"""Settings of Qwen3-MoE; the model is `model/qwen_moe.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.mixture import MixtureConfig


@dataclass(frozen=True)
class QwenMoEConfig(MixtureConfig):
    """Settings of a Qwen3-MoE: a Qwen3 whose feed-forward networks are mixtures of experts."""

    architecture: str = field(default="qwen_moe", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    normalize_weights: bool = True
    """divide the weights of the chosen experts by their sum"""
    attention_bias: bool = False
    """bias in the four projections of attention"""

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer, with the norms of queries and keys."""
        biases = self.qkv_bias_params + self.emb_dim
        return super().attention_params + 2 * self.head_size + self.attention_bias * biases
