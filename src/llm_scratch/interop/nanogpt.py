"""Load nanoGPT's ckpt.pt: GPT-2's names, PyTorch's matrix layout, the exact GELU, optional biases.

The optimizer state is not imported: the file does not record the order of its parameter groups.
Tests: tests/interop/test_import.py (logits equal to those of nanoGPT's formula).
Source: https://github.com/karpathy/nanoGPT, model.py and train.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_scratch.architectures import GPTConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import NANOGPT, biases
from llm_scratch.interop.hf_family import positive_integers
from llm_scratch.interop.torch_file import StateDictSource
from llm_scratch.interop.weight_map import Origin, assemble
from llm_scratch.model import LanguageModel

SHAPE_FIELDS = {
    "vocab_size": "vocab_size",
    "block_size": "context_length",
    "n_embd": "emb_dim",
    "n_head": "n_heads",
    "n_layer": "n_layers",
}
"""Key of nanoGPT's model_args -> field of ModelConfig."""
OPTIONAL = {"bias", "dropout"}


def is_nanogpt(saved: Any) -> bool:
    """Whether the content of a torch file is a nanoGPT checkpoint."""
    return (
        isinstance(saved, dict) and isinstance(saved.get("model_args"), dict) and "model" in saved
    )


def load_nanogpt(saved: dict[str, Any], path: Path) -> LanguageModel:
    """Load the model of a checkpoint.

    Raises:
        UserError: unsupported settings, or tensors that do not match them (code 4).
    """
    args = saved["model_args"]
    unknown = sorted(
        name for name, value in args.items() if name not in SHAPE_FIELDS.keys() | OPTIONAL and value
    )
    if unknown:
        raise UserError(
            f"{path}: model_args has {unknown[0]}={args[unknown[0]]!r},"
            " which nanoGPT's model does not have",
            CHECKPOINT,
        )
    shape: dict[str, Any] = positive_integers(args, path, SHAPE_FIELDS)
    if args["n_embd"] % args["n_head"]:
        raise UserError(
            f"{path}: n_embd={args['n_embd']} is not a multiple of n_head={args['n_head']}",
            CHECKPOINT,
        )
    bias, drop = args.get("bias", True), args.get("dropout", 0.0)
    if type(bias) is not bool or not isinstance(drop, int | float) or not 0 <= drop < 1:
        raise UserError(
            f"{path}: model_args has bias={bias!r}, dropout={drop!r};"
            " expected true or false, and 0 <= dropout < 1",
            CHECKPOINT,
        )
    cfg = GPTConfig(
        **shape, drop_rate=float(drop), qkv_bias=bias, tie_embeddings=True, activation="gelu"
    )
    source = StateDictSource(saved["model"], path)
    plain = {name.removeprefix("transformer."): tensor for name, tensor in source.tensors.items()}
    # `attn.bias` are causal masks
    source.tensors = {
        name: tensor for name, tensor in plain.items() if not name.endswith(".attn.bias")
    }
    return assemble(
        cfg,
        source,
        NANOGPT,
        Origin(path, "model_args"),
        absent=() if bias else biases(with_shifts=True),
    )
