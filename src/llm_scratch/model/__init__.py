"""The model: token ids in, one score for each possible next token out.

One alphabet for every shape comment in this repo (tests/architecture/test_shapes.py holds each comment to its tensor):

    B batch    T new tokens    S seen tokens (with a cache, all so far)    C emb_dim    V vocab_size
    H heads    G key/value heads    D size of a head    F hidden size of the feed-forward
    In a product by itself: [M, K] times a matrix [N, K] is [M, N]; N is also so many rows taken together.

A model is a class `(cfg) -> nn.Module` with `forward(in_idx [B, T], cache=None) -> logits [B, T, V]`, `.cfg` and
`.new_cache(batch_size)`. Yours: write it, then `MODELS["mine"] = Mine` and train with `--model.architecture mine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import unknown
from llm_scratch.model.exact_gelu import ExactGELUGPT
from llm_scratch.model.gpt import DummyGPTModel, GPTModel
from llm_scratch.model.nanochat import ModernGPT
from llm_scratch.model.quantized import quantize

MODELS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gpt": GPTModel,
    "gpt-erf": ExactGELUGPT,
    "modern": ModernGPT,
    "dummy": DummyGPTModel,
}


def build(cfg: Mapping[str, Any]) -> nn.Module:
    """The model that `cfg.architecture` names, with fresh weights.

    Raises:
        UserError: no such architecture; names the nearest.
    """
    cfg = ModelConfig.of(cfg)
    if cfg.architecture not in MODELS:
        raise unknown("architecture", cfg.architecture, MODELS, extensible=True)
    model = MODELS[cfg.architecture](cfg)
    return model if cfg.bits == 32 else quantize(model, cfg.bits)
