"""Load litgpt models: lit_model.pth and model_config.yaml, one general model with forty settings.

Only settings of our GPT are supported; any other is rejected by name. litgpt has rotary and no
learned position embeddings: a model with rotary_percentage 0 is ours with position embeddings of 0.
Tests: tests/interop/test_import.py (logits equal to those of litgpt's formula).
Source: https://github.com/Lightning-AI/litgpt, litgpt/config.py and litgpt/model.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_scratch.architectures import Activation, GPTConfig
from llm_scratch.errors import CHECKPOINT
from llm_scratch.interop.gpt2_weight_map import LITGPT, biases
from llm_scratch.interop.hf_family import positive_integers, unsupported
from llm_scratch.interop.torch_file import StateDictSource, read_torch
from llm_scratch.interop.weight_map import Origin, assemble
from llm_scratch.model import LanguageModel
from llm_scratch.storage.safe_parse import read_yaml

MODEL = "lit_model.pth"
CONFIG = "model_config.yaml"
ACTIVATIONS: dict[str, Activation] = {"none": "gelu", "tanh": "gelu_tanh"}
"""gelu_approximate -> GPTConfig.activation."""
SIZES = {
    "block_size": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
"""litgpt's name -> ours."""
REQUIRED_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "rotary_percentage": (0.25, 0),
    "norm_class_name": ("LayerNorm", "LayerNorm"),
    "norm_eps": (1e-5, 1e-5),
    "norm_qk": (False, False),
    "parallel_residual": (True, False),
    "shared_attention_norm": (False, False),
    "post_attention_norm": (False, False),
    "post_mlp_norm": (False, False),
    "norm_1": (True, True),
    "norm_2": (True, True),
    "mlp_class_name": ("GptNeoxMLP", "GptNeoxMLP"),
    "n_expert": (0, 0),
    "scale_embeddings": (False, False),
    "lm_head_bias": (False, False),
    "attention_scores_scalar": (None, None),
    "sliding_window_size": (None, None),
    "attention_logit_softcapping": (None, None),
    "final_logit_softcapping": (None, None),
    "latent_attention": (None, None),
}
"""Setting -> (litgpt's default, the only value that our model supports)."""


def is_litgpt(folder: Path) -> bool:
    """Whether a folder is a litgpt model."""
    return (folder / MODEL).is_file() and (folder / CONFIG).is_file()


def load_litgpt(folder: Path) -> LanguageModel:
    """Load the model of a folder.

    Raises:
        UserError: unsupported settings, or tensors that do not match them (code 4).
    """
    path = folder / CONFIG
    config = read_yaml(path, CHECKPOINT)
    cfg = config_of(config, path)
    saved = read_torch(folder / MODEL)
    if isinstance(saved, dict) and isinstance(saved.get("model"), dict):
        state = saved["model"]
    else:
        state = saved
    source = StateDictSource(state, folder / MODEL)
    source.tensors = {
        name.removeprefix("transformer."): tensor for name, tensor in source.tensors.items()
    }
    absent = () if config.get("bias", True) else biases(with_shifts=False)
    return assemble(cfg, source, LITGPT, Origin(folder / MODEL, CONFIG), absent)


def config_of(config: dict[str, Any], path: Path) -> GPTConfig:
    """Convert litgpt's settings to a ModelConfig.

    Raises:
        UserError: an unsupported setting; names it (code 4).
    """
    for name, (default, wanted) in REQUIRED_DEFAULTS.items():
        if config.get(name, default) != wanted:
            raise unsupported(config, path, name, f"{wanted!r}, the only supported value")
    vocab = "padded_vocab_size" if config.get("padded_vocab_size") is not None else "vocab_size"
    sizes: dict[str, Any] = positive_integers(config, path, SIZES | {vocab: "vocab_size"})
    C, H = sizes["emb_dim"], sizes["n_heads"]
    for name, wanted in (("head_size", C / H), ("n_query_groups", H), ("intermediate_size", 4 * C)):
        if config.get(name) not in (None, wanted):
            raise unsupported(config, path, name, f"{wanted}, the only supported value")
    activation = config.get("gelu_approximate", "none")
    if activation not in ACTIVATIONS:
        raise unsupported(config, path, "gelu_approximate", " or ".join(ACTIVATIONS))
    bias = bool(config.get("bias", True) or config.get("attn_bias", False))
    return GPTConfig(
        **sizes,
        drop_rate=0.0,
        qkv_bias=bias,
        tie_embeddings=False,
        activation=ACTIVATIONS[activation],
    )
