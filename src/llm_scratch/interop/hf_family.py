"""What is known of a model family of transformers: its settings and the names of its tensors.

Tests: tests/interop/test_hf.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm_scratch.architectures import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.weight_map import Rule

EXTRA_KEY = "llm_scratch"
"""Key in config.json for our settings that theirs do not have; transformers ignores it."""


class Family(NamedTuple):
    """A model type of transformers."""

    architecture: str
    """our name of it, in `ARCHITECTURES`"""
    class_name: str
    """their class with the output head, such as "GPT2LMHeadModel" """
    config_from: Callable[[Mapping[str, Any], Path], ModelConfig]
    """(config.json, its path for errors) -> our settings; UserError if unsupported (code 4)"""
    config_to: Callable[[Any], dict[str, Any]]
    """our settings -> what is special in config.json; UserError if it cannot be (code 2)"""
    rules: Sequence[Rule] | Callable[[Any], Sequence[Rule]]
    """names of tensors in a file of `class_name`; a function of our settings if they depend on
    these, such as on the number of experts
    """
    prefix: str = ""
    """what begins all names but the head's; absent in the file of a model without a head"""
    ignored: re.Pattern[str] = re.compile("(?!)")
    """tensors in a file, such as masks in old ones, that are left out unless a rule names them"""
    defaults: Mapping[str, Any] = {}
    """values of settings that config.json may lack, where they differ from most families'"""
    expresses: Callable[[Any], bool] = lambda cfg: True
    """whether it supports these settings of ours

    Of several model types for one architecture, the first that does is written.
    """
    reads_mxfp4: bool = False
    """whether quantized weights in MXFP4 are read, as in the published gpt-oss models"""
    has_all_biases: bool = False
    """whether a bias that our model lacks is written as 0; else it is left out"""

    def rules_of(self, cfg: ModelConfig) -> Sequence[Rule]:
        """The names of tensors for settings of ours."""
        return self.rules(cfg) if callable(self.rules) else self.rules


def unsupported(config: Mapping[str, Any], path: Path, name: str, expected: object) -> UserError:
    """The error for a setting that our model does not have."""
    return UserError(
        f"{path}: {name} is {str(config.get(name))[:60]!r}; expected {expected}", CHECKPOINT
    )


def positive_integers(
    config: Mapping[str, Any], path: Path, names: Mapping[str, str]
) -> dict[str, int]:
    """Sizes of a model under our names.

    Args:
        config: of transformers.
        path: its file, for errors.
        names: their name -> ours.
    Raises:
        UserError: one is missing or not a positive integer (code 4).
    """
    for name in names:
        if type(config.get(name)) is not int or not 1 <= config[name] < 1 << 40:
            raise unsupported(config, path, name, "a positive integer")
    return {ours: config[theirs] for theirs, ours in names.items()}
