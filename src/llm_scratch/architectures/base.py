"""What the config classes of all model architectures share, and the table of architectures.

Tests: tests/architectures/test_configs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, Literal, Self

from llm_scratch.config_dicts import from_dict
from llm_scratch.errors import UserError, unknown
from llm_scratch.ranges import check_fields

DEFAULT_ARCHITECTURE = "gpt"
"""The architecture of settings that name none, such as the notebooks' dict."""
Init = Literal["torch", "gpt2", "mimetic"]
"""How weights are initialized; see `model/initialization.py`."""
NOT_IN_WEIGHTS = frozenset({"context_length", "drop_rate", "init"})
"""Settings that may differ from those of the weights; a context may only be shorter."""


@dataclass(frozen=True)
class ModelConfig(Mapping[str, Any]):
    """Settings of a model that every architecture has; each architecture's own class adds the rest.

    `cfg.emb_dim` and `cfg["emb_dim"]` both work. Positional arguments are in the order of the
    notebooks' dict. Defaults are GPT-2 "small" (124 M parameters).
    """

    not_inherited = frozenset[str]()  # without an annotation, which would make it a field
    """settings that another architecture means differently: changing to this one leaves them out"""

    architecture: str = field(kw_only=True)
    """the model architecture; it decides which other settings there are"""
    vocab_size: int = 50257
    """V: number of tokens in the vocabulary"""
    context_length: int = 1024
    """T: largest number of tokens that the model attends to"""
    emb_dim: int = 768
    """C: width of the residual stream"""
    n_heads: int = 12
    """H: attention heads per layer"""
    n_layers: int = 12
    """number of transformer blocks"""
    drop_rate: float = 0.1
    """dropout rate during training"""

    def __post_init__(self) -> None:
        check_fields(self)

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula."""
        raise NotImplementedError(
            f"{type(self).__name__} has no n_params;"
            " add the property, the number of trainable parameters"
        )

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Self:
        """Convert a dict to the config of its architecture, or return a config as it is.

        A dict without "architecture", such as the notebooks', has that of this class; for
        `ModelConfig` itself it is a `GPTConfig`.

        Raises:
            UserError: an unknown architecture, or one of another class; an unknown key, with the
                nearest name.
        """
        if isinstance(cfg, cls):
            return cfg
        return from_dict(cls, cfg)

    @classmethod
    def variant(
        cls, values: Mapping[str, Any], base: ModelConfig | None, path: str
    ) -> type[ModelConfig]:
        """The config class of the named architecture; see `config_dicts.from_dict`."""
        own: Any = DEFAULT_ARCHITECTURE
        if cls is not ModelConfig:
            own = cls.__dataclass_fields__["architecture"].default
        name = values.get("architecture", own if base is None else base.architecture)
        if not isinstance(name, str):
            return cls  # the value is reported as one of a wrong type
        kind = config_class(name)
        if not issubclass(kind, cls):
            raise UserError(
                f"architecture {name!r}: its settings are a {kind.__name__};"
                f" expected a {cls.__name__}"
            )
        for key in values:
            check_setting(name, key, f"{path}.{key}".lstrip("."))
        return kind


@dataclass(frozen=True)
class Architecture:
    """A model architecture: the class of its settings, and the class of its model.

    Args:
        config: a subclass of `ModelConfig`.
        model: the model class, which takes such a config; or its location
            as "module:Class", which is imported at first use.
    """

    config: type[ModelConfig]
    model: Callable[[Any], Any] | str

    @property
    def model_class(self) -> Callable[[Any], Any]:
        """The class of the model, imported if necessary."""
        if not isinstance(self.model, str):
            return self.model
        module, _, name = self.model.partition(":")
        return getattr(import_module(module), name)


ARCHITECTURES: dict[str, Architecture] = {}
"""Name of an architecture -> its classes; filled by `llm_scratch.architectures`; add your own."""


def architecture(name: str) -> Architecture:
    """The classes of an architecture.

    Raises:
        UserError: unknown name; suggests the nearest.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES, extensible=True)
    return ARCHITECTURES[name]


def config_class(name: str) -> type[ModelConfig]:
    """The config class of an architecture; errors as in `architecture`."""
    return architecture(name).config


def check_setting(name: str, setting: str, shown: str) -> None:
    """Reject a setting that another architecture has and this one does not.

    Args:
        name: the architecture.
        setting: a field, such as `qkv_bias`.
        shown: the setting as the user wrote it.
    Raises:
        UserError: names the settings that there are.
    """
    own = setting_names(config_class(name))
    of_others = (setting_names(other.config) for other in ARCHITECTURES.values())
    if setting in own or not any(setting in names for names in of_others):
        return
    special = [field for field in own if field not in setting_names(ModelConfig)]
    raise UserError(
        f"{shown}: architecture {name!r} has no such setting;"
        f" its own settings are {', '.join(special) or 'none'}"
    )


def setting_names(kind: type[ModelConfig]) -> list[str]:
    """The settings of a config class."""
    return [each.name for each in fields(kind)]


def check_heads(cfg: ModelConfig, even: bool = False) -> None:
    """Check that the width of a model divides into its heads.

    Args:
        cfg: its settings.
        even: whether the size of a head must be even too, as for rotary positions.
    Raises:
        UserError: it does not; suggests a width or number of heads that does.
    """
    C, H = cfg.emb_dim, cfg.n_heads
    if C % H:
        raise UserError(
            f"emb_dim={C} is not a multiple of n_heads={H}; try emb_dim={max(C // H, 1) * H}"
        )
    if even and C // H % 2:
        raise UserError(
            f"n_heads: a head size of {C // H} is odd; choose n_heads so that it is even"
        )
