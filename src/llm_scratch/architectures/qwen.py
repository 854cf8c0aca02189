"""Settings of the Qwen family; the model is `model/qwen.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.decoder import DecoderConfig


@dataclass(frozen=True)
class QwenConfig(DecoderConfig):
    """Settings of a Qwen2 (`qkv_bias`, no `qk_norm`) or, by default, a Qwen3."""

    architecture: str = field(default="qwen", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    rope_base: float = 1_000_000.0
    """base of the rotary frequencies; larger for longer contexts"""
    qk_norm: bool = True
    """RMS-normalize the queries and keys of each head (Qwen3)"""
    qkv_bias: bool = False
    """bias in the query, key and value projections (Qwen2)"""
    window: int | None = None
    """sliding window: number of last tokens that a layer attends to; None: all"""
    window_from_layer: int = 0
    """first layer that has the window"""

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer."""
        first = self.window_from_layer
        return [self.window if layer >= first else None for layer in range(self.n_layers)]

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer."""
        norms = 2 * self.head_size
        return (
            super().attention_params + self.qkv_bias * self.qkv_bias_params + self.qk_norm * norms
        )
