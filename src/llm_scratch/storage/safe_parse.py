"""Parse untrusted JSON and YAML safely: reject ambiguous and malicious input.

Rejected: duplicate keys, numbers that are not JSON (NaN), excessive nesting, YAML tags that create
objects, YAML aliases (a few hundred bytes can expand to gigabytes), and oversized files.
Tests: tests/storage/test_safe_parse.py.
Source: RFC 8259, section 4, https://www.rfc-editor.org/rfc/rfc8259;
YAML 1.2.2, section 3.2.1.3, https://yaml.org/spec/1.2.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

from llm_scratch.errors import UserError, describe_error

MAX_JSON = 4 << 20  # bytes
MAX_YAML = 64 << 10  # bytes; PyYAML is slow
MAX_DEPTH = 50  # nested brackets


def parse_json(text: bytes, where: str | Path, code: int) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: the JSON text.
        where: the file, for errors.
        code: exit code of errors.
    Raises:
        UserError: not JSON, not an object, or a duplicate key.
    """

    def reject_duplicates(items: list[tuple[str, Any]]) -> dict[str, Any]:
        duplicate = first_duplicate_key(name for name, _ in items)
        if duplicate is not None:
            raise ValueError(f"duplicate key {duplicate[:60]!r}")
        return dict(items)

    def reject_constant(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        content = json.loads(
            text, object_pairs_hook=reject_duplicates, parse_constant=reject_constant
        )
    except (ValueError, RecursionError) as e:
        raise UserError(
            f"{where} is not JSON ({describe_error(e)}); download or write it again", code
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{where} is not a JSON object; download or write it again", code)
    return content


def read_json(path: str | Path, code: int) -> dict[str, Any]:
    """Read a JSON object from a file. Raises as `parse_json`, or if the file cannot be read."""
    return parse_json(_read_limited(path, MAX_JSON, code), path, code)


def read_yaml(path: str | Path, code: int) -> dict[str, Any]:
    """Read a mapping from a YAML file; an empty file gives {}.

    Raises:
        UserError: unreadable, not YAML of plain values, an alias, or a duplicate key.
    """
    import yaml

    data = _read_limited(path, MAX_YAML, code)
    try:
        content = _load_yaml(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as e:
        raise UserError(f"{path} is not YAML: {describe_error(e)}; correct it", code) from None
    if not isinstance(content, dict | None):
        raise UserError(f"{path} is not a YAML mapping; expected lines such as `name: value`", code)
    return content or {}


def parse_yaml_value(text: str, name: str) -> Any:
    """Read one value of YAML: `3e-4`, `[1, 2]`, `null`.

    Args:
        text: the value.
        name: what it is the value of, for the error.
    Raises:
        UserError: it is not YAML of plain values (code 2).
    """
    import yaml

    try:
        return _load_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise UserError(
            f"{name}: {text[:60]!r} is not a YAML value ({describe_error(e)})"
        ) from None


def _load_yaml(text: str) -> Any:
    import yaml

    depths = accumulate((letter in "[{") - (letter in "]}") for letter in text)
    if max(depths, default=0) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} nested brackets")
    return yaml.load(text, _plain_loader())


def first_duplicate_key(names: Iterable[str]) -> str | None:
    """The first name that occurs twice; None if all are distinct."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _read_limited(path: str | Path, limit: int, code: int) -> bytes:
    try:
        size = Path(path).stat().st_size
        if size > limit:
            raise UserError(f"{path} has {size:,} bytes; expected at most {limit:,}", code)
        return Path(path).read_bytes()
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror}; check the path and its permissions", code
        ) from None


@cache
def _plain_loader() -> Any:
    """A PyYAML loader of plain values that rejects aliases and duplicate keys."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(
                    f"*{self.peek_event().anchor} is an alias; write out its value"
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            duplicate = first_duplicate_key(
                key.value for key, _ in node.value if isinstance(key.value, str)
            )
            if duplicate is not None:
                raise yaml.YAMLError(f"duplicate key {duplicate[:60]!r}")
            return super().construct_mapping(node, deep)

    return Plain
