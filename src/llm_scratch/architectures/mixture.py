"""Settings that all families with mixtures of experts share; the part is `model/mixture.py`.

Tests: tests/architectures/test_configs.py, and those of each family.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_scratch.architectures.decoder import DecoderConfig
from llm_scratch.errors import UserError


@dataclass(frozen=True)
class MixtureConfig(DecoderConfig):
    """Settings of a decoder whose feed-forward networks are mixtures of experts."""

    n_experts: int = 8
    """E: experts per layer"""
    experts_per_token: int = 2
    """K: experts that each token uses"""
    expert_dim: int | None = None
    """width of an expert; None: ff_dim / experts_per_token, the work of a plain network"""
    balance_loss: float = 0.001
    """coefficient of the loss that makes routers use all experts; 0: none"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts_per_token > self.n_experts:
            raise UserError(
                f"experts_per_token={self.experts_per_token} is more than"
                f" n_experts={self.n_experts}; choose at most as many"
            )

    @property
    def expert_size(self) -> int:
        """Width of an expert."""
        return self.expert_dim or max(self.ff_size // self.experts_per_token, 1)

    @property
    def expert_params(self) -> int:
        """Parameters of an expert: three matrices."""
        return 3 * self.emb_dim * self.expert_size

    @property
    def feed_forward_params(self) -> int:
        """Parameters of the mixture of a layer: its router and all experts."""
        return self.n_experts * (self.emb_dim + self.expert_params)
