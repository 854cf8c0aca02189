"""What is known of a model family of llama.cpp: its settings in a GGUF file and its tensors' names.

Tests: tests/interop/test_gguf.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from llm_scratch.architectures import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.interop.hf_family import unsupported
from llm_scratch.interop.weight_map import Rule

EXTRA_PREFIX = "llm_scratch."
"""Before the names of metadata for our settings that llama.cpp does not have; it ignores them."""
EMBEDDING, HEAD = "token_embd.weight", "output.weight"


class GGUFFamily(NamedTuple):
    """An architecture of llama.cpp."""

    architecture: str
    """our name of it, in `ARCHITECTURES`"""
    config_from: Callable[[GGUFSettings], ModelConfig]
    """the settings of a file -> ours; a UserError for one that is not supported (code 4)"""
    config_to: Callable[[Any], Mapping[str, Any]]
    """our settings -> metadata, without the prefix of the architecture, except for names that begin
    with `EXTRA_PREFIX`; a UserError if llama.cpp cannot express them (code 2)
    """
    rules: Callable[[Any], Sequence[Rule]]
    """our settings -> the names of the tensors"""
    expresses: Callable[[Any], bool] = lambda cfg: True
    """whether llama.cpp supports these settings of ours"""
    computed: Callable[[Any], Mapping[str, Tensor]] = lambda cfg: {}
    """our settings -> tensors that encode settings, with their names in a file"""
    has_all_biases: bool = False
    """whether a bias that our model lacks is written as 0; else it is left out"""


class GGUFSettings:
    """The settings of a GGUF file, checked as they are read.

    Args:
        file: the file.
        name: llama.cpp's name of the architecture, the prefix of the settings.
    """

    def __init__(self, file: GGUFFile, name: str) -> None:
        self.file, self.name = file, name

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer.

        Raises:
            UserError: it is missing without a default, or something else (code 4).
        """
        value = self._value(key, default)
        if type(value) is not int or not 1 <= value < 1 << 40:
            raise self.unsupported(key, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Read a finite number of at least 0, as the shortest decimal of its float32.

        Errors are those of `count`.
        """
        value = self._value(key, default)
        if type(value) not in (int, float) or not 0 <= value < 1e30:
            raise self.unsupported(key, "a number of at least 0")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        """A text; errors as in `count`."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.unsupported(key, "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; errors as in `count`."""
        value = self._value(key, default)
        if type(value) is not bool:
            raise self.unsupported(key, "true or false")
        return value

    def tensor(self, name: str) -> Tensor:
        """A tensor of the file."""
        return self.file.read(name)

    def has_tensor(self, name: str) -> bool:
        """Whether the file has a tensor."""
        return name in self.file.tensors

    @property
    def n_tokens(self) -> int:
        """Rows of the token embedding."""
        return self._embedding[0]

    @property
    def head_is_tied(self) -> bool:
        """Whether the output head is the token embedding: the file has no other."""
        return not self.has_tensor(HEAD)

    def unsupported(self, key: str, expected: str) -> UserError:
        """The error for a setting that our model does not have."""
        name = self._full(key)
        value = self.file.metadata.get(name, "missing")
        return unsupported({name: value}, self.file.path, name, expected)

    @property
    def _embedding(self) -> tuple[int, ...]:
        if EMBEDDING not in self.file.tensors or len(self.file.tensors[EMBEDDING].shape) != 2:
            raise UserError(
                f"{self.file.path}: the matrix {EMBEDDING} is missing; expected a language model",
                CHECKPOINT,
            )
        return self.file.tensors[EMBEDDING].shape

    def _value(self, key: str, default: Any) -> Any:
        return self.file.metadata.get(self._full(key), default)

    def _full(self, key: str) -> str:
        return key if key.startswith(EXTRA_PREFIX) else f"{self.name}.{key}"
