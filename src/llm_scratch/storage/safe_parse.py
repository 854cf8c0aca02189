"""JSON and YAML from strangers: what two readers could understand differently, or what is made to hurt, is refused.

Refused: a name given twice, numbers that JSON does not have (NaN), nesting without end, YAML that makes objects or refers to itself
(a few hundred bytes of it can stand for gigabytes), and files far larger than settings are.
Tests: tests/storage/test_safe_parse.py.
Source: RFC 8259, section 4, https://www.rfc-editor.org/rfc/rfc8259; YAML 1.2.2, section 3.2.1.3, https://yaml.org/spec/1.2.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

from llm_scratch.errors import UserError, describe_error

MAX_JSON, MAX_YAML, MAX_DEPTH = 4 << 20, 64 << 10, 50  # bytes, bytes (its reader is slow), brackets in brackets


def parse_json(text: bytes, where: str | Path, code: int) -> dict[str, Any]:
    """The object that a JSON text holds.

    Args:
        where: the file, for the error.
        code: of the error.
    Raises:
        UserError: it is no JSON, no object, or names something twice.
    """

    def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if (double := first_duplicate_key(name for name, _ in items)) is not None:
            raise ValueError(f"{double[:60]!r} is there twice")
        return dict(items)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{where} is not JSON ({describe_error(e)}); get it again", code) from None
    if not isinstance(found, dict):
        raise UserError(f"{where} holds no JSON object; get it again", code)
    return found


def read_json(path: str | Path, code: int) -> dict[str, Any]:
    """The object in a JSON file; errors as `parse_json`, or it cannot be read."""
    return parse_json(_read_limited(path, MAX_JSON, code), path, code)


def read_yaml(path: str | Path, code: int) -> dict[str, Any]:
    """The settings in a YAML file; an empty one has none.

    Raises:
        UserError: it cannot be read, is no YAML of plain values, refers to itself, or names something twice.
    """
    import yaml

    data = _read_limited(path, MAX_YAML, code)
    try:
        text = data.decode("utf-8")
        if max(accumulate((letter in "[{") - (letter in "]}") for letter in text), default=0) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} brackets in each other")
        found = yaml.load(text, _plain_loader())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as e:
        raise UserError(f"{path} is not YAML: {describe_error(e)}", code) from None
    if not isinstance(found, dict | None):
        raise UserError(f"{path} holds no settings; expected YAML such as `name: value`", code)
    return found or {}


def first_duplicate_key(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, found in one pass; None if each occurs once."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _read_limited(path: str | Path, limit: int, code: int) -> bytes:
    try:
        if (size := Path(path).stat().st_size) > limit:
            raise UserError(f"{path} has {size:,} bytes; settings have at most {limit:,}", code)
        return Path(path).read_bytes()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}; check the path and its permissions", code) from None


@cache
def _plain_loader() -> Any:
    """PyYAML's reader of plain values, without aliases and without doubles."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"*{self.peek_event().anchor} refers to another place; write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if (double := first_duplicate_key(key.value for key, _ in node.value if isinstance(key.value, str))) is not None:
                raise yaml.YAMLError(f"{double[:60]!r} is there twice")
            return super().construct_mapping(node, deep)

    return Plain
