"""Scaled rotary positions in GGUF files.

Linear scaling and YaRN are settings. Llama 3's is a tensor, `rope_freqs.weight`, by which llama.cpp
divides the frequency of every pair; the numbers that it was made from are not in the file. NTK
scaling is another base.
Tests: tests/interop/test_gguf_rope.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (conversion/llama.py, src/llama-context.cpp,
ggml/src/ggml-cpu/ops.cpp: rope_yarn).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from llm_scratch.architectures.decoder import DecoderConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_family import EXTRA_PREFIX, GGUFSettings
from llm_scratch.model.rope import Rotary, yarn_magnitude

TYPE, FACTOR = "rope.scaling.type", "rope.scaling.factor"
TRAINED_CONTEXT = "rope.scaling.original_context_length"
ATTENTION_FACTOR = "rope.scaling.attn_factor"
BETAS = {"rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0}
"""Name -> llama.cpp's default."""
DIVISORS = "rope_freqs.weight"
LLAMA3 = f"{EXTRA_PREFIX}rope_"
"""Before the names of the numbers that Llama 3's tensor was made from."""
SCALINGS = ("none", "linear", "yarn")
"""Values of rope_scaling that are settings of a file."""
TOLERANCE = 1e-4
"""of the divisors of a file, relative"""


def read_rope(
    settings: GGUFSettings, head_dim: int, scalings: Collection[str] = SCALINGS
) -> dict[str, Any]:
    """The settings `rope_*` of a `DecoderConfig`.

    Args:
        settings: of a file.
        head_dim: the size of a head.
        scalings: those that are supported.
    Raises:
        UserError: a scaling that is not supported, or damaged; names it (code 4).
    """
    base = {"rope_base": settings.number("rope.freq_base", 10_000.0)}
    scaling = settings.text(TYPE, "none")
    if scaling not in scalings:
        raise settings.unsupported(TYPE, " or ".join(scalings))
    if scaling == "none":
        return base | (_read_llama3(settings, head_dim) if settings.has_tensor(DIVISORS) else {})
    factor = settings.number(FACTOR, 1.0)
    rope: dict[str, Any] = {**base, "rope_scaling": scaling, "rope_factor": factor}
    if scaling == "linear":
        return rope
    for name, only in (("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)):
        if settings.number(f"rope.scaling.{name}", only) != only:
            raise settings.unsupported(f"rope.scaling.{name}", f"{only}")
    context = settings.count("context_length")
    trained = settings.count(TRAINED_CONTEXT, context)
    share = settings.number(ATTENTION_FACTOR, 1.0)
    fast, slow = (settings.number(name, default) for name, default in BETAS.items())
    magnitude = yarn_magnitude(factor)
    return rope | {
        "rope_trained_context": None if trained == context else trained,
        "rope_beta_fast": fast,
        "rope_beta_slow": slow,
        "rope_attention_factor": None if share == 1 else float(f"{share * magnitude:.6g}"),
    }


def _read_llama3(settings: GGUFSettings, head_dim: int) -> dict[str, Any]:
    """The settings of Llama 3's scaling: ours if the file has them, else the published ones."""
    divisors = settings.tensor(DIVISORS)  # [D / 2]
    largest = float(f"{divisors.max():.5g}") if divisors.numel() else 0.0
    defaults = {"factor": largest, "low_freq": 1.0, "high_freq": 4.0}
    own: dict[str, Any] = {
        name: settings.number(LLAMA3 + name, default) for name, default in defaults.items()
    }
    trained = settings.count(LLAMA3 + "trained_context", 8192)
    rotary = Rotary(
        head_dim,
        settings.number("rope.freq_base", 10_000.0),
        "llama3",
        own["factor"],
        trained,
        own["low_freq"],
        own["high_freq"],
    )
    expected = divisors_of(rotary)
    if divisors.shape != expected.shape or not divisors.allclose(expected, TOLERANCE, atol=0.0):
        raise UserError(
            f"{settings.file.path}: {DIVISORS} is not that of Llama 3's scaling by"
            f" {own['factor']:g} from {trained} tokens; convert the model from Hugging Face",
            CHECKPOINT,
        )
    context = settings.count("context_length")
    return {
        **{f"rope_{name}": value for name, value in own.items()},
        "rope_scaling": "llama3",
        "rope_trained_context": None if trained == context else trained,
    }


def written_rope(cfg: DecoderConfig) -> dict[str, Any]:
    """The metadata of rotary positions; of "llama3" only the numbers behind its tensor."""
    if cfg.rope_scaling in ("none", "ntk"):
        return {"rope.freq_base": Rotary.of(cfg, cfg.head_size).scaled_base}
    base = {"rope.freq_base": cfg.rope_base}
    trained = cfg.rope_trained_context or cfg.context_length
    if cfg.rope_scaling == "llama3":
        names = ("factor", "low_freq", "high_freq")
        numbers = {LLAMA3 + name: cfg[f"rope_{name}"] for name in names}
        return base | numbers | {LLAMA3 + "trained_context": trained}
    scaled = base | {TYPE: cfg.rope_scaling, FACTOR: cfg.rope_factor}
    if cfg.rope_scaling == "linear":
        return scaled
    share = Rotary.of(cfg, cfg.head_size).magnitude / yarn_magnitude(cfg.rope_factor)
    return scaled | {
        TRAINED_CONTEXT: trained,
        **dict(zip(BETAS, (cfg.rope_beta_fast, cfg.rope_beta_slow))),
        **({} if share == 1 else {ATTENTION_FACTOR: share}),
    }


def rope_tensors(cfg: DecoderConfig) -> dict[str, Tensor]:
    """The tensor of Llama 3's scaling, [D / 2]; {} for another."""
    if cfg.rope_scaling != "llama3":
        return {}
    return {DIVISORS: divisors_of(Rotary.of(cfg, cfg.head_size))}


def divisors_of(rotary: Rotary) -> Tensor:
    """How many times slower each pair turns than without scaling: [D / 2]."""
    cpu = torch.device("cpu")
    plain = Rotary(rotary.head_dim, rotary.base)
    return plain.frequencies(cpu) / rotary.frequencies(cpu)
