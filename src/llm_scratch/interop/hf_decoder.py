"""What the families after GPT-2 share in Hugging Face transformers: settings, and names of tensors.

Tests: those of each family, such as tests/model/test_llama.py.
Source: https://huggingface.co/docs/transformers, configurations and RoPE utilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llm_scratch.architectures.decoder import DecoderConfig, mixed_windows
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf_family import positive_integers, unsupported
from llm_scratch.interop.weight_map import Rule
from llm_scratch.model.rope import Rotary
from llm_scratch.ranges import RANGES

Config = TypeVar("Config", bound=DecoderConfig)

MAX_NUMBER = 1e15
"""Larger ones, infinity and NaN are invalid, and an integer may not fit a float."""
SIZES = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "ff_dim",
}
"""Field of their config -> field of ours, for sizes that must be there."""
OPTIONAL_SIZES = {"num_key_value_heads": "n_kv_heads", "head_dim": "head_dim"}
"""The same for sizes that may be missing or null."""
SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
"""rope_type -> rope_scaling."""
SCALING_NUMBERS = {
    "factor": "rope_factor",
    "low_freq_factor": "rope_low_freq",
    "high_freq_factor": "rope_high_freq",
    "beta_fast": "rope_beta_fast",
    "beta_slow": "rope_beta_slow",
    "attention_factor": "rope_attention_factor",
    "original_max_position_embeddings": "rope_trained_context",
}
"""Field of rope_parameters -> field of ours."""
USED_BY = {
    "none": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (
        "factor",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "original_max_position_embeddings",
    ),
}
"""rope_scaling -> the fields of rope_parameters that it has."""
LAYER_TYPES = ("full_attention", "sliding_attention")
ROPE_BASE = 10_000.0
"""Of a config that has none."""
RESOLVED = {
    "n_kv_heads": "kv_heads",
    "head_dim": "head_size",
    "ff_dim": "ff_size",
    "expert_dim": "expert_size",
    "shared_dim": "shared_size",
    "latent_dim": "latent_size",
    "rotated_dim": "rotated_size",
    "key_dim": "key_size",
    "value_dim": "value_size",
    "n_key_heads": "key_heads",
    "n_value_heads": "value_heads",
}
"""Setting that may be None -> the property with the size that it then has."""
OLD_ROTARY = r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
"""Tensors in old files that are computed from the settings."""

ATTENTION_RULES = [
    Rule(f"trf_blocks.#.att.{ours}.{kind}", f"model.layers.#.self_attn.{theirs}.{kind}")
    for ours, theirs in {
        "W_query": "q_proj",
        "W_key": "k_proj",
        "W_value": "v_proj",
        "out_proj": "o_proj",
    }.items()
    for kind in ("weight", "bias")
]
QK_NORM_RULES = [
    Rule(f"trf_blocks.#.att.{name}.weight", f"model.layers.#.self_attn.{name}.weight")
    for name in ("q_norm", "k_norm")
]
FEED_FORWARD_RULES = [
    Rule(f"trf_blocks.#.ff.{name}.{kind}", f"model.layers.#.mlp.{name}.{kind}")
    for name in ("gate_proj", "up_proj", "down_proj")
    for kind in ("weight", "bias")
]
PRE_NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
"""Norm of a block with norms before its parts -> their name."""


def decoder_rules(
    norms: Mapping[str, str] = PRE_NORMS, qk_norm: bool = False, ff: list[Rule] = FEED_FORWARD_RULES
) -> list[Rule]:
    """The names of all tensors of a family.

    Args:
        norms: norm of a block -> their name.
        qk_norm: whether queries and keys have norms.
        ff: rules of the feed-forward network.
    """
    return [
        Rule("tok_emb.weight", "model.embed_tokens.weight"),
        *ATTENTION_RULES,
        *(QK_NORM_RULES if qk_norm else []),
        *ff,
        *(
            Rule(f"trf_blocks.#.{ours}.weight", f"model.layers.#.{theirs}.weight")
            for ours, theirs in norms.items()
        ),
        Rule("final_norm.weight", "model.norm.weight"),
        Rule("out_head.weight", "lm_head.weight"),
    ]


def read_settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a `DecoderConfig` except those of rotary positions.

    Args:
        config: of transformers, completed by the defaults of its class.
        path: its file, for errors.
    Raises:
        UserError: one is missing or not supported; names it (code 4).
    """
    optional = {name: ours for name, ours in OPTIONAL_SIZES.items() if config.get(name) is not None}
    settings: dict[str, Any] = positive_integers(config, path, SIZES | optional)
    if settings["n_layers"] not in RANGES["n_layers"]:  # before lists of that length are made
        raise unsupported(config, path, "num_hidden_layers", RANGES["n_layers"])
    settings["norm_eps"] = number(config, path, "rms_norm_eps", 1e-6)
    settings["drop_rate"] = number(config, path, "attention_dropout", 0.0)
    settings["tie_embeddings"] = switch(config, path, "tie_word_embeddings", False)
    return settings


def read_rope(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings `rope_*`, from `rope_parameters` or the older `rope_theta` and `rope_scaling`.

    Raises:
        UserError: a scaling that is not supported; names it (code 4).
    """
    rope = rope_fields(config, path)
    base = rope.get("rope_theta", config.get("rope_theta", ROPE_BASE))
    return rope_settings({**rope, "rope_theta": base}, path)


def rope_fields(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A copy of `rope_parameters`, or of the older `rope_scaling`; {} without either.

    Raises:
        UserError: they are not a mapping (code 4).
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise unsupported(config, path, "rope_parameters", "settings of rotary positions")
    return dict(rope)


def read_rope_of_kinds(
    config: Mapping[str, Any], path: Path, old_base: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings `rope_*` of layers that attend to all tokens, and of those with a window.

    Args:
        config: has `rope_parameters` with both kinds of layers, or the older `rope_theta` and
            `rope_scaling`.
        path: its file, for errors.
        old_base: the older name of the base in layers with a window.
    Raises:
        UserError: a scaling that is not supported, or in layers with a window; names it (code 4).
    """
    kinds = config.get("rope_parameters") or {
        "full_attention": config.get("rope_scaling") or {},
        "sliding_attention": {"rope_theta": config.get(old_base)},
    }
    if not isinstance(kinds, Mapping) or not all(
        isinstance(kinds.get(kind), Mapping) for kind in ("full_attention", "sliding_attention")
    ):
        raise unsupported(
            config, path, "rope_parameters", "full_attention and sliding_attention, with settings"
        )
    full = rope_settings({"rope_theta": config.get("rope_theta"), **kinds["full_attention"]}, path)
    local = rope_settings({"rope_theta": config.get(old_base), **kinds["sliding_attention"]}, path)
    if local["rope_scaling"] != "none":
        raise unsupported(
            kinds["sliding_attention"], path, "rope_type", "default in layers with a window"
        )
    return full, local


def read_windows(
    config: Mapping[str, Any], path: Path, n_layers: int, default_every: int
) -> dict[str, Any]:
    """The settings `window` and `full_every`, from `sliding_window` and `layer_types`.

    Args:
        config: of transformers, completed by the defaults of its class.
        path: its file, for errors.
        n_layers: number of layers.
        default_every: without `layer_types`, every n-th layer has no window.
    Raises:
        UserError: the layers without a window are not every n-th; names the setting (code 4).
    """
    types = config.get("layer_types")
    if types is None:
        types = layer_types(mixed_windows(n_layers, 1, default_every))
    if (
        not isinstance(types, list)
        or len(types) != n_layers
        or any(kind not in LAYER_TYPES for kind in types)
    ):
        raise unsupported(config, path, "layer_types", f"{n_layers} of {' or '.join(LAYER_TYPES)}")
    full, windowed = LAYER_TYPES
    if windowed not in types:
        return {"window": None}
    every = types.index(full) + 1 if full in types else None
    if types != layer_types(mixed_windows(n_layers, 1, every)):
        raise unsupported(config, path, "layer_types", f"{full} in every n-th layer only")
    return {
        **positive_integers(config, path, {"sliding_window": "window"}),
        "full_every": every,
    }


def layer_types(windows: Sequence[int | None]) -> list[str]:
    """Their name for the attention of every layer."""
    return [LAYER_TYPES[0] if window is None else LAYER_TYPES[1] for window in windows]


def rope_settings(rope: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings `rope_*` from the fields of one kind of rotary positions; as `read_rope`."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise unsupported({"rope_type": kind}, path, "rope_type", " or ".join(SCALINGS))
    for name, expected in (("partial_rotary_factor", 1.0), ("truncate", True)):
        if rope.get(name, expected) != expected:
            raise unsupported(rope, path, name, f"{expected}, the only supported value")
    for name in ("mscale", "mscale_all_dim"):
        if rope.get(name):
            raise unsupported(rope, path, name, "nothing: it is not supported")
    scaling = SCALINGS[kind]
    settings: dict[str, Any] = {"rope_scaling": scaling}
    settings["rope_base"] = number(rope, path, "rope_theta", ROPE_BASE)
    if scaling != "none" and rope.get("factor") is None:
        raise unsupported(rope, path, "factor", f"a number, which rope_type {kind!r} needs")
    for name in USED_BY[scaling]:
        if rope.get(name) is None:
            continue
        ours = SCALING_NUMBERS[name]
        if ours == "rope_trained_context":
            settings |= positive_integers(rope, path, {name: ours})
        else:
            settings[ours] = number(rope, path, name, 1.0)
    return settings


def number(config: Mapping[str, Any], path: Path, name: str, default: float) -> float:
    """A number; a UserError for anything else (code 4)."""
    value = default if config.get(name) is None else config[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < MAX_NUMBER:
        raise unsupported(config, path, name, f"a number below {MAX_NUMBER:g}")
    return float(value)


def switch(config: Mapping[str, Any], path: Path, name: str, default: bool) -> bool:
    """True or false; a UserError for anything else (code 4)."""
    value = default if config.get(name) is None else config[name]
    if type(value) is not bool:
        raise unsupported(config, path, name, "true or false")
    return value


def require(config: Mapping[str, Any], path: Path, **supported: Any) -> None:
    """Check settings that have a single supported value; a missing setting or None is valid too.

    Raises:
        UserError: names the setting (code 4).
    """
    for name, value in supported.items():
        if config.get(name) not in (None, value):
            raise unsupported(config, path, name, f"{value}, the only supported value")


def make(kind: Callable[..., Config], settings: Mapping[str, Any], path: Path) -> Config:
    """Make our config; a size that is our default anyway is left to it.

    Raises:
        UserError: a value is out of range, or sizes do not fit together (code 4).
    """
    try:
        cfg = kind(**settings)
        for name, resolved in RESOLVED.items():
            if settings.get(name) is None:
                continue
            try:
                plain = kind(**{**settings, name: None})
            except UserError:
                continue  # the default does not exist, such as emb_dim / n_heads
            if getattr(plain, resolved) == getattr(cfg, resolved):
                settings = {**settings, name: None}
        return kind(**settings)
    except UserError as e:
        raise UserError(f"{path}: {e}", CHECKPOINT) from e


def written_settings(cfg: DecoderConfig) -> dict[str, Any]:
    """The fields of their config that every family has, except those of rotary positions."""
    return {
        **{theirs: cfg[ours] for theirs, ours in SIZES.items()},
        "intermediate_size": cfg.ff_size,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_size,
        "rms_norm_eps": cfg.norm_eps,
        "attention_dropout": cfg.drop_rate,
        "initializer_range": 0.02,
        "tie_word_embeddings": cfg.tie_embeddings,
    }


def written_rope(cfg: DecoderConfig) -> dict[str, Any]:
    """Rotary positions in a config, under the names of transformers 5 and of those before it."""
    rope = rope_parameters(cfg)
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    return {
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if rope["rope_type"] == "default" else scaling,
    }


def written_rope_of_kinds(cfg: DecoderConfig, local_base: float, old_base: str) -> dict[str, Any]:
    """As `written_rope`, for layers that attend to all tokens and layers with a window.

    Args:
        local_base: the base in layers with a window.
        old_base: its older name.
    """
    full = written_rope(cfg)
    local = {"rope_type": "default", "rope_theta": local_base}
    kinds = {"full_attention": full["rope_parameters"], "sliding_attention": local}
    return {old_base: local_base, **full, "rope_parameters": kinds}


def rope_parameters(cfg: DecoderConfig) -> dict[str, Any]:
    """The fields of one kind of rotary positions; "ntk" is a larger base."""
    if cfg.rope_scaling == "ntk":
        raised = Rotary.of(cfg, cfg.rotated_size).scaled_base
        return {"rope_type": "default", "rope_theta": raised}
    kinds = {ours: theirs for theirs, ours in SCALINGS.items()}
    rope = {name: cfg[SCALING_NUMBERS[name]] for name in USED_BY[cfg.rope_scaling]}
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = cfg.rope_trained_context or cfg.context_length
    rope = {name: value for name, value in rope.items() if value is not None}
    return {"rope_type": kinds[cfg.rope_scaling], "rope_theta": cfg.rope_base, **rope}
