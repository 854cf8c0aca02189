"""The package's GPT with a learner's layers in place of its own.

It starts from the same weights as the package's, to the bit.
Tests: tests/own_parts/test_use.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llm_scratch.model.gpt import GPTModel, TransformerBlock
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.own_parts.layer_parts import with_weights_of


class OwnBlock(nn.Module):
    """A transformer block whose attention may not support a cache. [B, T, C] -> [B, T, C]."""

    def __init__(self, block: TransformerBlock, uses_cache: bool) -> None:
        super().__init__()
        self.att: Any = block.att
        self.ff: nn.Module = block.ff
        self.norm1: nn.Module = block.norm1
        self.norm2: nn.Module = block.norm2
        self.drop_shortcut = block.drop_shortcut
        self.uses_cache = uses_cache

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """As `TransformerBlock.forward`."""
        y = self.norm1(x)  # [B, T, C]
        y = self.att(y, cache) if self.uses_cache else self.att(y)  # [B, T, C]
        x = x + self.drop_shortcut(y)  # [B, T, C]
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # [B, T, C]


class OwnGPT(GPTModel):
    """A GPT-2 with a learner's parts.

    Args:
        cfg: as for `GPTModel`.
        parts: the classes, by the names of `parts.PARTS`.
    """

    def __init__(self, cfg: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        super().__init__(cfg)
        own_attention = "MultiHeadAttention" in parts
        self.has_cache = not own_attention
        blocks = [OwnBlock(block, not own_attention) for block in self.trf_blocks]  # type: ignore[arg-type]
        self.trf_blocks = nn.Sequential(*blocks)
        for block in blocks:
            self._replace_layers(block, parts)
        if "LayerNorm" in parts:
            self.final_norm: Any = self._own(self.final_norm, parts["LayerNorm"], self.cfg.emb_dim)

    def _replace_layers(self, block: OwnBlock, parts: Mapping[str, Any]) -> None:
        cfg = self.cfg
        if "MultiHeadAttention" in parts:
            sizes = cfg.emb_dim, cfg.emb_dim, cfg.context_length, cfg.drop_rate, cfg.n_heads
            block.att = self._own(block.att, parts["MultiHeadAttention"], *sizes)
        if "FeedForward" in parts:
            block.ff = self._own(block.ff, parts["FeedForward"], cfg)
        elif "GELU" in parts:
            block.ff.layers[1] = parts["GELU"]()  # type: ignore[operator]
        if "LayerNorm" in parts:
            block.norm1 = self._own(block.norm1, parts["LayerNorm"], cfg.emb_dim)
            block.norm2 = self._own(block.norm2, parts["LayerNorm"], cfg.emb_dim)

    def _own(self, package: nn.Module, part: Any, *sizes: Any) -> nn.Module:
        return with_weights_of(package, lambda: part(*sizes))
