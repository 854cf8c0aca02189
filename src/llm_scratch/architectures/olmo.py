"""Settings of the OLMo family; the model is `model/olmo.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.decoder import DecoderConfig, mixed_windows


@dataclass(frozen=True)
class OlmoConfig(DecoderConfig):
    """Settings of an OLMo 2 or, with a `window`, an OLMo 3."""

    architecture: str = field(default="olmo", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    rope_base: float = 500_000.0
    """base of the rotary frequencies; larger for longer contexts"""
    window: int | None = None
    """sliding window: number of last tokens that a layer attends to; None: all. rope_scaling
    applies to the layers without one
    """
    full_every: int | None = 4
    """every n-th layer attends to all tokens; None: every layer has the window"""

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer."""
        return mixed_windows(self.n_layers, self.window, self.full_every)

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer, whose norms span all heads."""
        return super().attention_params + (self.n_heads + self.kv_heads) * self.head_size
