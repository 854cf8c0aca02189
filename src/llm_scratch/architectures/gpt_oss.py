"""Settings of gpt-oss; the model is `model/gpt_oss.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.decoder import mixed_windows
from llm_scratch.architectures.mixture import MixtureConfig


@dataclass(frozen=True)
class GPTOSSConfig(MixtureConfig):
    """Settings of a gpt-oss: mixtures of experts, sinks, and a window in every other layer."""

    architecture: str = field(default="gpt_oss", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    window: int | None = 128
    """sliding window: number of last tokens that a layer attends to; None: all"""
    full_every: int | None = 2
    """every n-th layer attends to all tokens; None: every layer has the window"""
    attention_bias: bool = True
    """bias in the four projections of attention"""
    gate_limit: float = 7.0
    """largest value of an expert's gate and hidden layer"""
    gate_slope: float = 1.702
    """a of the gate's activation, x sigmoid(a x)"""

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer."""
        return mixed_windows(self.n_layers, self.window, self.full_every)

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer, with a sink for each head."""
        biases = self.qkv_bias_params + self.emb_dim
        return super().attention_params + self.n_heads + self.attention_bias * biases

    @property
    def feed_forward_params(self) -> int:
        """Parameters of the mixture of a layer; router and experts have biases."""
        return super().feed_forward_params + self.n_experts * (
            1 + 2 * self.expert_size + self.emb_dim
        )
