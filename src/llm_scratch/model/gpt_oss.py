"""gpt-oss: OpenAI's open model, the architecture "gpt_oss".

What it changes relative to Llama:
- each token uses a few of many feed-forward networks (`mixture.py`), with biases and a gate whose
  inputs are limited
- every other layer attends to a short window only (`grouped_attention.py`)
- each head has a sink, a learned score for attending to nothing

Tests: tests/model/test_gpt_oss.py (equal to transformers' GptOss).
Source: gpt-oss-120b and gpt-oss-20b Model Card, OpenAI 2025, https://arxiv.org/abs/2508.10925.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from llm_scratch.architectures.gpt_oss import GPTOSSConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import Rotary, RotaryAngles


class LimitedFeedForward(Fusable):
    """An expert: a gated network with limited inputs and 1 added to its hidden layer.

    y = (h + 1) g sigmoid(a g) W_down, with g = min(x W_gate, limit) and h = x W_up, limited on both
    sides. [..., C] -> [..., C].

    Args:
        emb_dim: C.
        ff_dim: width of the hidden layer.
        limit: of its inputs.
        slope: a.
    """

    fusable = "gate_proj", "up_proj"

    def __init__(self, emb_dim: int, ff_dim: int, limit: float, slope: float) -> None:
        super().__init__()
        self.limit, self.slope = limit, slope
        self.gate_proj = nn.Linear(emb_dim, ff_dim)
        self.up_proj = nn.Linear(emb_dim, ff_dim)
        self.down_proj = nn.Linear(ff_dim, emb_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the formula."""
        gate, up = self.project(x)
        gate = gate.clamp(max=self.limit)
        hidden = up.clamp(-self.limit, self.limit)
        return self.down_proj((hidden + 1) * gate * (self.slope * gate).sigmoid())


def gpt_oss_block(cfg: GPTOSSConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, attention with sinks, norm, mixture of experts."""
    bias = cfg.attention_bias
    att = grouped(cfg, layer, qkv_bias=bias, out_bias=bias, sinks=True)
    routing = Routing(
        cfg.n_experts, cfg.experts_per_token, logit_bias=True, balance_loss=cfg.balance_loss
    )
    expert = partial(
        LimitedFeedForward, cfg.emb_dim, cfg.expert_size, cfg.gate_limit, cfg.gate_slope
    )
    ff = MixtureOfExperts(cfg.emb_dim, routing, expert)
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, drop_rate=cfg.drop_rate)


class GPTOSSModel(DecoderModel):
    """gpt-oss language model: for each position the logits of every possible next token.

    Args:
        cfg: a `GPTOSSConfig`, or a dict of its fields.
    """

    cfg: GPTOSSConfig
    has_static_steps = False

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = GPTOSSConfig.of(cfg)
        super().__init__(cfg, (gpt_oss_block(cfg, layer) for layer in range(cfg.n_layers)))

    def layer_angles(self, positions: Tensor) -> list[RotaryAngles | None]:
        """The same rotary angles in every layer; with "yarn", the ramp has no whole ends."""
        cfg = self.cfg
        return [Rotary.of(cfg, cfg.head_size, truncate=False).angles(positions)] * cfg.n_layers
