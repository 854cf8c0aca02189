"""Compare a run's settings with the nearest preset; build the command that trains it again.

Tests: tests/reports/test_settings.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llm_scratch.architectures import config_class
from llm_scratch.config import RunConfig, to_dict
from llm_scratch.presets import PRESETS

GROUPS = ("model", "data", "train", "system")


@dataclass(frozen=True)
class Change:
    """A setting that differs from the preset."""

    name: str
    value: Any
    preset_value: Any


def flatten(config: RunConfig) -> dict[str, Any]:
    """All settings by the names of their flags, such as "model.emb_dim" and "from"."""
    groups = to_dict(config)
    flat = {f"{group}.{name}": value for group in GROUPS for name, value in groups[group].items()}
    return flat | {"from": config.init_from}


def changes(config: RunConfig, base: RunConfig) -> list[Change]:
    """The settings in which a run differs from `base`, in the order of the config classes.

    Settings that only the run's architecture has are compared with their defaults.
    """
    kind = config_class(config.model.architecture)
    defaults = flatten(replace(config, model=kind(architecture=config.model.architecture)))
    base_values = defaults | flatten(base)  # maybe no model: an architecture excludes some settings
    return [
        Change(name, value, base_values[name])
        for name, value in flatten(config).items()
        if value != base_values[name]
    ]


def nearest_preset(config: RunConfig, name: str = "") -> str:
    """The preset with the fewest differences; `name`, often a folder's, if it is a preset."""
    if name in PRESETS:
        return name
    return min(PRESETS, key=lambda each: len(changes(config, PRESETS[each]())))


def train_words(config: RunConfig, preset: str, out: str) -> list[str]:
    """The arguments of `llm-scratch` that train a run again, from its preset and flags.

    Args:
        config: the settings of the run.
        preset: a name in `PRESETS`.
        out: the new run directory.
    """
    values = flatten(config)
    base = PRESETS[preset]()
    words = ["train", preset]
    wanted = {change.name for change in changes(config, base)}
    if "data.tokenizer" in wanted:
        wanted.add("model.vocab_size")  # a ready-made tokenizer would set its own
    if config.init_from:
        words += ["--from", config.init_from]
        wanted = {name for name in wanted if not name.startswith("model.")} | {
            "model.context_length",
            "model.drop_rate",
        }
        wanted -= {"data.tokenizer"}  # shape and tokenizer come with the model
    if config.parts:
        words += ["--parts", config.parts.rpartition(" ")[0]]
    for name, value in values.items():
        if name in wanted and name != "from":
            words += _flag(name, value)
    return [*words, "--out", out]


def _flag(name: str, value: Any) -> list[str]:
    """A setting as command-line arguments."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        group, _, rest = flag[2:].partition(".")
        return [flag if value else f"--{group}.no-{rest}"]
    if isinstance(value, (list, tuple)):
        return [flag, *map(str, value)]
    if str(value).startswith("-"):
        return [f"{flag}={value}"]
    return [flag, str(value)]
