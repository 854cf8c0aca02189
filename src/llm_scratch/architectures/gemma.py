"""Settings of the Gemma family; the model is `model/gemma.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.decoder import DecoderConfig, mixed_windows


@dataclass(frozen=True)
class GemmaConfig(DecoderConfig):
    """Settings of a Gemma 2 (soft-caps, no `qk_norm`) or, by default, a Gemma 3."""

    architecture: str = field(default="gemma", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    tie_embeddings: bool = True
    """share the token embedding with the output head (saves V x C parameters)"""
    rope_base: float = 1_000_000.0
    """base of the rotary frequencies in layers that attend to all tokens"""
    rope_local_base: float | None = 10_000.0
    """base of the rotary frequencies in layers with a window, which rope_scaling leaves alone;
    None: rope_base
    """
    window: int | None = None
    """sliding window: number of last tokens that a layer attends to; None: all"""
    full_every: int | None = 6
    """every n-th layer attends to all tokens; None: every layer has the window"""
    qk_norm: bool = True
    """RMS-normalize the queries and keys of each head (Gemma 3)"""
    query_size: int | None = None
    """attention scores are divided by the square root of this; None: head_dim"""
    attention_softcap: float | None = None
    """limit of attention scores, by a tanh (Gemma 2: 50); None: no limit"""
    logit_softcap: float | None = None
    """limit of logits, by a tanh (Gemma 2: 30); None: no limit"""

    @property
    def windows(self) -> list[int | None]:
        """The sliding window of every layer."""
        return mixed_windows(self.n_layers, self.window, self.full_every)

    @property
    def attention_params(self) -> int:
        """Parameters of the attention of a layer."""
        return super().attention_params + self.qk_norm * 2 * self.head_size

    @property
    def norm_params(self) -> int:
        """Parameters of the norms of a block: before and after each part."""
        return 4 * self.emb_dim
