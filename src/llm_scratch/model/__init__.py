"""GPT models: token ids in, a logit for each possible next token out.

Shape letters in the comments of this repository (checked by tests/architecture/test_shapes.py):

    B batch    T new tokens    S tokens so far (cached and new)    C emb_dim    V vocab_size
    H heads    G key/value heads    D head size    F hidden size of the feed-forward network
    M, K, N: a matrix product [M, K] x [N, K]^T -> [M, N]; N is also a block of rows.

A model is a class `(cfg) -> nn.Module` with `forward(in_idx [B, T], cache=None) -> logits [B, T,
V]`, `.cfg` and `.new_cache(batch_size)`. To add one, write the class, set `MODELS["mine"] = Mine`
and train with `--model.architecture mine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import unknown
from llm_scratch.model.exact_gelu import ExactGELUGPT
from llm_scratch.model.gpt import DummyGPTModel, GPTModel
from llm_scratch.model.nanochat import NanoChatGPT
from llm_scratch.model.quantized import quantize

MODELS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gpt": GPTModel,
    "gpt-exact-gelu": ExactGELUGPT,
    "nanochat": NanoChatGPT,
    "dummy": DummyGPTModel,
}


def build(cfg: Mapping[str, Any]) -> nn.Module:
    """Build the model that `cfg.architecture` names, with newly initialized weights.

    Raises:
        UserError: unknown architecture; suggests the nearest name.
    """
    cfg = ModelConfig.of(cfg)
    if cfg.architecture not in MODELS:
        raise unknown("architecture", cfg.architecture, MODELS, extensible=True)
    model = MODELS[cfg.architecture](cfg)
    return model if cfg.bits == 32 else quantize(model, cfg.bits)
