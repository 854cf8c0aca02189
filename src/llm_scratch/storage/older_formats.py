"""Read settings and checkpoints of older formats, by converting them to the current one.

    1  the first
    2  the manifest has its own SHA-256
    3  settings, tensors and counters have the names below;
       each architecture has settings of its own

Everything here works on plain dicts; the rest of the package uses only the current names.
Tests: tests/storage/test_older_formats.py, tests/reliability/test_r11_formats.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

PARTS = {"machine": "system", "start": "init_from"}
SETTINGS = {
    "train": {"max_norm": "grad_clip"},
    "system": {"recompute": "activation_checkpointing", "background_save": "async_save"},
}
VALUES = {
    "model": {"architecture": {"modern": "nanochat"}},
    "data": {"order": {"epochs": "notebook"}},
}
EXACT_GELU = ("gpt-erf", "gpt-exact-gelu")
"""Architectures that are now an `activation`."""
BITS: dict[str, list[Any]] = {"bits": [32, 8, 4]}
"""Now in the state of a checkpoint alone, as `quantized`."""
REMOVED: dict[str, dict[str, list[Any]]] = {"nanochat": {"qkv_bias": [False], "init": ["torch"]}}
"""Settings that every architecture once had, with the values that this one allowed."""
STATE = {"guard": "spike_detector", "trouble": "recovery"}
RECOVERY = {"streak": "consecutive_bad", "returns": "rollbacks", "shift": "skipped_batches"}
PLAN = {"passes": "epochs", "before": "baseline_memory", "look_seconds": "eval_seconds"}
TENSOR_PARTS = {"widen": "up_proj", "narrow": "down_proj", "numbers": "qweight"}


def upgrade_settings(settings: Any) -> Any:
    """Convert the settings of a run to the current format.

    Args:
        settings: of a run, as nested dicts from YAML or JSON; anything else is returned as it is.
    Returns:
        New dicts, in the order of the old ones; current names and unknown keys are unchanged.
    """
    if not isinstance(settings, Mapping):
        return settings
    upgraded = _renamed(settings, PARTS)
    for part, names in SETTINGS.items():
        if isinstance(upgraded.get(part), Mapping):
            upgraded[part] = _renamed(upgraded[part], names)
    for part, fields in VALUES.items():
        for name, values in fields.items():
            section = upgraded.get(part)
            if isinstance(section, Mapping) and isinstance(section.get(name), str):
                upgraded[part] = {**section, name: values.get(section[name], section[name])}
    if isinstance(upgraded.get("model"), Mapping):
        upgraded["model"] = _upgrade_model(upgraded["model"])
    return upgraded


def _upgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the model's architecture alone."""
    name = model.get("architecture")
    if name in EXACT_GELU:
        model = {**model, "architecture": "gpt", "activation": "gelu"}
    removed = BITS | REMOVED.get(str(name), {})
    return {key: value for key, value in model.items() if value not in removed.get(key, [])}


def upgrade_state(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the counters in the `state.json` of a checkpoint of format 1 or 2."""
    upgraded = _renamed(state, STATE)
    if isinstance(upgraded.get("recovery"), Mapping):
        upgraded["recovery"] = _renamed(upgraded["recovery"], RECOVERY)
    return upgraded


def upgrade_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the values of an older `plan.json`."""
    return _renamed(plan, PLAN)


def upgrade_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """Rename tensors of format 1 or 2, such as `trf_blocks.0.widen.weight/exp_avg`."""
    return {_tensor_name(name): tensor for name, tensor in tensors.items()}


def _tensor_name(name: str) -> str:
    parts = name.split(".")
    return ".".join(TENSOR_PARTS.get(part, part) for part in parts)


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
