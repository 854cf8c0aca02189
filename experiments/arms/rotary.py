"""Rotary positions in place of learned ones: queries and keys rotate with their position.

Source: Su et al. 2021, https://arxiv.org/abs/2104.09864.
"""

import torch
from torch import Tensor, nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.attention import MultiHeadAttention, attend, qkv_projections
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.rope import apply_rotary, rotary_angles


class RotaryAttention(MultiHeadAttention):
    """Attention with rotated queries and keys."""

    def forward(self, x: Tensor, cache=None) -> Tensor:
        """[B, T, C] -> [B, T, C], as in `MultiHeadAttention`."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)
        positions = torch.arange(T, device=x.device) if cache is None else cache.positions(T)
        angles = rotary_angles(positions, self.head_dim)
        q, k = (apply_rotary(each, angles).type_as(v) for each in (q, k))
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
            mask = cache.mask(T)
        return self.out_proj(attend(q, k, v, mask, self.dropout).transpose(1, 2).reshape(B, T, -1))


class NoPositions(nn.Module):
    """Replaces the position embeddings and adds nothing."""

    def forward(self, positions: Tensor) -> Tensor:
        """Positions of any shape -> 0."""
        return torch.zeros((), device=positions.device)


class RotaryGPT(GPTModel):
    """A GPT with `RotaryAttention`; its other initial weights are those of the GPT."""

    def __init__(self, cfg):
        super().__init__(cfg)
        C, length, drop, heads = (
            self.cfg[key] for key in ("emb_dim", "context_length", "drop_rate", "n_heads")
        )
        self.pos_emb = NoPositions()
        for layer, block in enumerate(self.trf_blocks):
            att = RotaryAttention(C, C, length, drop, heads, self.cfg.qkv_bias, layer=layer)
            att.load_state_dict(block.att.state_dict())
            block.att = att


ARCHITECTURES["rotary"] = Architecture(GPTConfig, RotaryGPT)
