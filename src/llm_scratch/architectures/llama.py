"""Settings of the Llama family; the model is `model/llama.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.decoder import DecoderConfig


@dataclass(frozen=True)
class LlamaConfig(DecoderConfig):
    """Settings of a Llama, Mistral or SmolLM.

    Llama 2 and 3, SmolLM2: the fields of every `DecoderConfig`. Mistral: `window`. SmolLM3:
    `no_rope_every`.
    """

    architecture: str = field(default="llama", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    window: int | None = None
    """sliding window: number of last tokens that a layer attends to; None: all"""
    no_rope_every: int | None = None
    """every n-th layer has no positions; None: all layers have"""
    attention_bias: bool = False
    """bias in the four projections of attention"""
    ff_bias: bool = False
    """bias in the three projections of the feed-forward network"""

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer."""
        return [self.window] * self.n_layers

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer."""
        biases = self.qkv_bias_params + self.emb_dim
        return super().attention_params + self.attention_bias * biases

    @property
    def feed_forward_params(self) -> int:
        """Parameters of the feed-forward network of a layer."""
        return super().feed_forward_params + self.ff_bias * (2 * self.ff_size + self.emb_dim)
