"""Open a model in TransformerLens, for its many tools: `to_transformer_lens(model, tokenizer)`.

The model goes through the export to transformers, which checks that nothing changes, and is loaded
from there. What transformers cannot express, TransformerLens cannot either.
Tests: tests/interop/test_transformer_lens.py (equal logits, patterns and lens).
Source: Nanda and Bloom 2022, https://transformerlensorg.github.io/TransformerLens/.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.extras import install_command
from llm_scratch.interop.hf_export import export_hf
from llm_scratch.model import as_language_model
from llm_scratch.tokenizers import Tokenizer


def to_transformer_lens(model: nn.Module, tokenizer: Tokenizer) -> Any:
    """A copy of a model and its tokenizer as a `TransformerBridge` on the CPU, in float32.

    Its activations have the names of `interpretability.capture`. Texts are encoded without
    `model.start_id`; pass ids to read exactly what this model reads.

    Raises:
        UserError: TransformerLens is not installed, or as `export_hf`.
    """
    try:
        bridge: Any = import_module("transformer_lens.model_bridge")
    except ImportError:
        raise UserError(f"TransformerLens is not installed; {install_command('lens')}") from None
    with tempfile.TemporaryDirectory() as folder:
        export_hf(as_language_model(model), tokenizer, Path(folder) / "model")
        return bridge.TransformerBridge.boot_transformers(
            f"{folder}/model", device="cpu", dtype=torch.float32
        )
