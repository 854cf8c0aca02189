"""Presets: named settings of whole runs.

A preset is a function that returns a `RunConfig`; flags and files override settings.

To add one, write a function, then `PRESETS["mine"] = mine` and run `llm-scratch train mine --import
mine.py`.
Tests: tests/test_presets.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llm_scratch.architectures import (
    DeepSeekConfig,
    LlamaConfig,
    QwenConfig,
    QwenMoEConfig,
    QwenNextConfig,
)
from llm_scratch.config import (
    DataConfig,
    GPTConfig,
    NanoChatConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
)
from llm_scratch.errors import unknown


def quickstart() -> RunConfig:
    """Children's stories of a known entropy: a GPT learns to write in two minutes on a laptop."""
    return RunConfig(
        GPTConfig(
            vocab_size=1536,
            context_length=256,
            emb_dim=128,
            n_heads=4,
            n_layers=2,
            drop_rate=0.0,
            tie_embeddings=True,
            init="mimetic",
        ),
        DataConfig(source="stories:12000", tokenizer="bpe", val_fraction=0.02, order="documents"),
        TrainConfig(
            steps=1100,
            batch_size=8,
            optimizer="muon",
            lr=0.02,
            weight_decay=0.0,
            schedule="linear",
            warmup_steps=20,
            eval_every=100,
            eval_batches=10,
            save_every=550,
            sample_every=100,
            prompt="The story of",
            snapshot_every=50,
        ),
    )


def verdict() -> RunConfig:
    """The notebooks' step 4: the 124M shape on a short story for ten epochs, which it memorizes."""
    return RunConfig(
        GPTConfig(context_length=256),
        DataConfig(
            source="verdict",
            tokenizer="gpt2",
            val_fraction=0.2,
            split="characters",
            order="notebook",
        ),
        TrainConfig(
            epochs=10,
            batch_size=2,
            lr=4e-4,
            min_lr=4e-4,
            schedule="constant",
            betas=(0.9, 0.999),
            grad_clip=None,
            eval_every=5,
            eval_batches=None,
            save_every=40,
            sample_every=8,
            prompt="Every effort moves you",
            log_every=1,
        ),
        # as in the notebooks, whose losses it reproduces to six digits
        SystemConfig(precision="float32"),
    )


def shakespeare() -> RunConfig:
    """All of Shakespeare's best-known lines, by characters: 4 layers of 128, a few minutes."""
    return RunConfig(
        GPTConfig(
            vocab_size=66,
            context_length=64,
            emb_dim=128,
            n_heads=4,
            n_layers=4,
            drop_rate=0.0,
            tie_embeddings=True,
            init="gpt2",
        ),
        DataConfig(source="shakespeare", tokenizer="chars"),
        TrainConfig(
            steps=2000,
            batch_size=12,
            optimizer="muon",
            lr=0.02,
            weight_decay=0.0,
            schedule="linear",
            warmup_steps=50,
            eval_every=250,
            eval_batches=40,
            save_every=1000,
            sample_every=500,
            prompt="ROMEO:",
        ),
    )


def shakespeare_modern() -> RunConfig:
    """The same text with a current architecture, NanoChat's, in a minute: the fastest recipe."""
    return RunConfig(
        NanoChatConfig(
            vocab_size=66, context_length=64, emb_dim=128, n_heads=4, n_layers=4, drop_rate=0.0
        ),
        DataConfig(source="shakespeare", tokenizer="chars"),
        TrainConfig(
            steps=620,
            batch_size=24,
            optimizer="muon",
            lr=0.05,
            weight_decay=0.0,
            schedule="linear",
            warmup_steps=20,
            eval_every=100,
            eval_batches=20,
            save_every=310,
            sample_every=155,
            prompt="ROMEO:",
        ),
    )


TINY: dict[str, Any] = {
    "vocab_size": 1536,
    "context_length": 256,
    "emb_dim": 128,
    "n_heads": 4,
    "tie_embeddings": True,
    "init": "mimetic",
}
"""Settings of the families' models that learn the stories in minutes, as `quickstart` has them."""


def llama_tiny() -> RunConfig:
    """The stories of `quickstart` with a Llama: rotary positions, SwiGLU, grouped-query attention.

    The model is `model/llama.py`, with two query heads for each key head.
    """
    model = LlamaConfig(**TINY, n_kv_heads=2, n_layers=3)
    return replace(quickstart(), model=model)


def qwen3_tiny() -> RunConfig:
    """The stories of `quickstart` with a Qwen3: a Llama with normalized queries and keys.

    The model is `model/qwen.py`.
    """
    model = QwenConfig(**TINY, n_kv_heads=2, n_layers=3)
    return replace(quickstart(), model=model)


def moe_tiny() -> RunConfig:
    """The stories of `quickstart` with a Qwen3-MoE: each token uses 2 of 8 small experts.

    The model is `model/qwen_moe.py`.
    """
    model = QwenMoEConfig(
        **TINY, n_kv_heads=2, n_layers=3, n_experts=8, experts_per_token=2, balance_loss=0.01
    )
    return replace(quickstart(), model=model)


def mla_tiny() -> RunConfig:
    """The stories of `quickstart` with a DeepSeek-V3: latent attention and mixtures of experts.

    The model is `model/deepseek.py`; its cache holds 80 values per token and layer for all heads.
    """
    model = DeepSeekConfig(
        **TINY, n_layers=3, latent_dim=64, rotated_dim=16, n_experts=8, experts_per_token=2
    )
    return replace(quickstart(), model=model)


def delta_tiny() -> RunConfig:
    """The stories of `quickstart` with a Qwen3-Next: three linear-attention layers, one attention.

    The model is `model/qwen_next.py`; the state of the three has a fixed size.
    """
    model = QwenNextConfig(
        **TINY, n_kv_heads=2, n_layers=4, n_experts=4, experts_per_token=2, balance_loss=0.01
    )
    return replace(quickstart(), model=model)


def gpt2_small() -> RunConfig:
    """GPT-2's 124M shape and choices, for your own text: `--data.source file:books/*.txt`."""
    return RunConfig(
        GPTConfig(qkv_bias=True, tie_embeddings=True, init="gpt2"),
        DataConfig(source="python-docs", tokenizer="gpt2"),
        TrainConfig(
            steps=10_000,
            batch_size=8,
            lr=6e-4,
            min_lr=6e-5,
            warmup_steps=200,
            eval_every=250,
            save_every=500,
            sample_every=500,
        ),
    )


def llama_small() -> RunConfig:
    """A Llama of GPT-2's size for a GPU, 32 rows of 1,024 tokens a step, for your own text."""
    base = gpt2_small()
    return replace(
        base,
        model=LlamaConfig(n_kv_heads=4, tie_embeddings=True),
        train=replace(base.train, batch_size=32, micro_batches=4),
    )


OWN_TEXT = "text"
"""The word in place of a preset in `train text PATH`, which chooses the settings for a text."""

PRESETS: dict[str, Callable[[], RunConfig]] = {
    "quickstart": quickstart,
    "verdict": verdict,
    "shakespeare": shakespeare,
    "shakespeare-modern": shakespeare_modern,
    "llama-tiny": llama_tiny,
    "qwen3-tiny": qwen3_tiny,
    "moe-tiny": moe_tiny,
    "mla-tiny": mla_tiny,
    "delta-tiny": delta_tiny,
    "gpt2-small": gpt2_small,
    "llama-small": llama_small,
}
"""Name of a preset -> function without arguments that returns its settings."""


def preset(name: str) -> RunConfig:
    """The settings of a preset.

    Raises:
        UserError: no such preset; names the nearest.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS, extensible=True)
    return PRESETS[name]()
