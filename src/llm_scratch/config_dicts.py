"""Convert config dataclasses to plain dicts and back, with every name and type checked.

Tests: tests/test_config.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, Protocol, TypeVar, get_type_hints, runtime_checkable

from llm_scratch.errors import UserError, unknown
from llm_scratch.ranges import OutOfRange

T = TypeVar("T")


@runtime_checkable
class HasVariants(Protocol):
    """A base class of configs: the settings decide which of its subclasses they belong to.

    Attributes:
        not_inherited: fields of a subclass that are not taken over from a config of another one.
    """

    not_inherited: frozenset[str]

    def variant(self, values: Mapping[str, Any], base: Any, path: str) -> type:
        """The class for these settings; arguments as in `from_dict`."""
        ...


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a config to plain dicts, ready for JSON or YAML."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any], base: T | None = None, path: str = "") -> T:
    """Make a config from plain dicts.

    Args:
        cls: its class, or a base class with `variant` (see `HasVariants`), such as `ModelConfig`.
        values: the settings.
        base: a config whose values are kept where a key is missing; None: those of the class.
        path: the name of this part in the whole config, for errors.
    Raises:
        UserError: an unknown key (with the nearest one), or a value of the wrong type.
    """
    kind: Any = cls
    if not isinstance(values, Mapping):
        known = sorted(field.name for field in fields(kind))
        raise UserError(
            f"setting {path or 'config'!r} is {values!r}; expected keys like {', '.join(known[:4])}"
        )
    if isinstance(cls, HasVariants):
        kind = cls.variant(values, base, path)
    names = [field.name for field in fields(kind)]
    hints = get_type_hints(kind)
    settings: dict[str, Any] = {}
    if base is not None:
        new = kind.not_inherited if isinstance(kind, HasVariants) and kind is not type(base) else ()
        kept = [name for name in names if hasattr(base, name) and name not in new]
        settings = {name: getattr(base, name) for name in kept}
    for key, value in values.items():
        name = f"{path}.{key}".lstrip(".")
        if key not in names:
            raise unknown("setting", name, [f"{path}.{known}".lstrip(".") for known in names])
        settings[key] = _value(hints[key], value, settings.get(key), name)
    try:
        return kind(**settings)
    except OutOfRange as e:
        raise e.shown_as(f"{path}.{e.name}".lstrip(".")) from None


def _value(hint: Any, value: Any, base: Any, name: str) -> Any:
    """A value for a field of this type; that of a nested config may be a dict."""
    if not is_dataclass(hint):
        return _validate_types(hint, value, name)
    kind: Any = hint
    return value if isinstance(value, kind) else from_dict(kind, value, base, name)


def _validate_types(hint: Any, value: Any, name: str) -> Any:
    """Convert `value`, from untrusted YAML or JSON, to the field's type, or raise a `UserError`."""
    options = getattr(hint, "__args__", (hint,))
    if getattr(hint, "__origin__", None) is tuple:
        if isinstance(value, (list, tuple)) and len(value) == len(options):
            return tuple(
                _validate_types(option, part, name) for option, part in zip(options, value)
            )
    elif getattr(hint, "__origin__", None) is Literal:
        if value in options:
            return value
        raise unknown(f"value of {name}", str(value), [str(o) for o in options])
    elif value is None and type(None) in options:
        return None
    elif bool in options or str in options:
        if type(value) in options:
            return value
    elif float in options and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 parses 1e-3 as a string
        except ValueError:
            pass
    elif int in options and isinstance(value, int) and not isinstance(value, bool):
        return value
    join = " and " if getattr(hint, "__origin__", None) is tuple else " or "
    wanted = join.join(
        "nothing" if o is type(None) else getattr(o, "__name__", str(o)) for o in options
    )
    raise UserError(f"setting {name!r} is {value!r}; expected {wanted}")
