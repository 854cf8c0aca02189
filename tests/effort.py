"""Count what code does instead of timing it: a count is the same on every machine, under any load.

    with at_most(lines=10_000, comparisons=300):
        load(hostile_file)

It counts lines of Python in this thread, and comparisons of the names in JSON and YAML. What C
code does in one call (a regular expression, `sorted`, `str.replace`) counts as one line, so a test
of such code needs a count of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any
from unittest.mock import patch

import yaml
from yaml.composer import Composer

PATIENCE_SECONDS = 300.0
"""A deadline that only ends a hang: on an idle machine each wait with it takes a few seconds."""


class TooMuch(BaseException):
    """Raised inside the counted code to end it. No handler of `Exception` stops it."""


@dataclass
class Effort:
    """The counts of the code inside the block."""

    lines: int = 0
    comparisons: int = 0


@contextmanager
def at_most(lines: int | None = None, comparisons: int | None = None) -> Iterator[Effort]:
    """Count lines of Python and comparisons of names in the block; AssertionError beyond a limit.

    The limit ends the block, too: code whose work grows with the square would run for hours.

    Args:
        lines: limit of executed lines; None counts without a limit.
        comparisons: limit of comparisons of a name in JSON or YAML with another; None: not counted.
    """
    effort = Effort()

    def trace(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            effort.lines += 1
            if lines is not None and effort.lines > lines:
                raise TooMuch
        return trace

    before = sys.gettrace()
    try:
        with counted_names(effort, comparisons):
            sys.settrace(trace)
            try:
                yield effort
            finally:
                sys.settrace(before)
    except TooMuch:
        pass
    for done, limit, what in (
        (effort.lines, lines, "executed lines of Python"),
        (effort.comparisons, comparisons, "comparisons of names"),
    ):
        assert limit is None or done <= limit, f"more than {limit:,} {what}"


@contextmanager
def counted_names(effort: Effort, limit: int | None) -> Iterator[None]:
    """Count comparisons of the names in JSON and YAML objects."""
    if limit is None:
        yield
        return

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            effort.comparisons += 1
            if effort.comparisons > limit:
                raise TooMuch
            return str.__eq__(self, other)

    Hook = Callable[[list[tuple[str, Any]]], Any]

    def loads(text: Any, *, object_pairs_hook: Hook | None = None, **more: Any) -> Any:
        if object_pairs_hook is None:
            return plain_loads(text, **more)

        def counted(items: list[tuple[str, Any]]) -> Any:
            return object_pairs_hook([(Name(name), value) for name, value in items])

        return plain_loads(text, object_pairs_hook=counted, **more)

    def compose_scalar_node(composer: Composer, anchor: Any) -> yaml.ScalarNode:
        node = plain_compose(composer, anchor)
        node.value = Name(node.value)
        return node

    plain_loads = json.loads
    plain_compose = Composer.compose_scalar_node
    counted_yaml = patch.object(Composer, "compose_scalar_node", compose_scalar_node)
    with patch("json.loads", loads), counted_yaml:
        yield


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; a hang raises TimeoutError, which names `what` did not happen."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.01)
