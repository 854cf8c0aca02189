"""Settings of NanoChat's architecture; the model is `model/nanochat.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_scratch.architectures.base import ModelConfig, check_heads


@dataclass(frozen=True)
class NanoChatConfig(ModelConfig):
    """Settings of a NanoChat model: it has no biases, and one initialization."""

    architecture: str = field(default="nanochat", kw_only=True)
    """the model architecture; it decides which other settings there are"""
    tie_embeddings: bool = False
    """share the token embedding with the output head (saves V x C parameters)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self, even=True)

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        C, V = self.emb_dim, self.vocab_size
        return V * C * (1 if self.tie_embeddings else 2) + self.n_layers * 12 * C * C
