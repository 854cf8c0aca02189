"""GPT models: token ids in, a logit for each possible next token out.

Shape letters in the comments of this repository (checked by tests/architecture/test_shapes.py):

    B batch    T new tokens    S tokens so far (cached and new)    C emb_dim    V vocab_size
    H heads    G key/value heads    D head size    F hidden size of the feed-forward network
    M, K, N: a matrix product [M, K] x [N, K]^T -> [M, N]; N is also a block of rows.

A model is a `LanguageModel`, made from the settings of its architecture; `ARCHITECTURES` has both
by name, and `llm_scratch.architectures` says how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_scratch.architectures import ARCHITECTURES, Architecture, ModelConfig, architecture
from llm_scratch.model.language_model import LanguageModel, as_language_model

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "LanguageModel",
    "ModelConfig",
    "as_language_model",
    "build",
]


def build(cfg: Mapping[str, Any]) -> LanguageModel:
    """Build the model of an architecture, with newly initialized weights.

    Args:
        cfg: its settings, or a dict of them; without "architecture" it is a GPT-2.
    Raises:
        UserError: unknown architecture; suggests the nearest name.
    """
    cfg = ModelConfig.of(cfg)
    return as_language_model(architecture(cfg.architecture).model_class(cfg))
