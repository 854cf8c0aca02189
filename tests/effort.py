"""Count what code does instead of timing it: the counts are the same on every machine and under every load.

    with at_most(lines=10_000, comparisons=300):
        load(hostile_file)

Counted are lines of Python in this thread, and comparisons of the names in JSON and YAML. What C code does in one call
(a regular expression, `sorted`, `str.replace`) counts as one line, so a test of such code needs a count of its own.
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

PATIENCE_SECONDS = 300.0  # ends a hang and nothing else: on an idle machine each wait here takes a few seconds


class TooMuch(BaseException):
    """Raised inside the counted code to end it. No handler of `Exception` stops it."""


@dataclass
class Effort:
    """What the code inside the block has done."""

    lines: int = 0
    comparisons: int = 0


@contextmanager
def at_most(lines: int | None = None, comparisons: int | None = None) -> Iterator[Effort]:
    """Count lines of Python and comparisons of names inside the block, and end it with an AssertionError beyond a limit.

    The limit also ends code whose work grows with the square of its input, which would run for hours otherwise.

    Args:
        lines: limit of executed lines; None counts without a limit.
        comparisons: limit of comparisons of a name in JSON or YAML with another; None leaves names uncounted.
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
    assert lines is None or effort.lines <= lines, f"more than {lines:,} lines of Python"
    assert comparisons is None or effort.comparisons <= comparisons, f"more than {comparisons:,} comparisons of names"


@contextmanager
def counted_names(effort: Effort, limit: int | None) -> Iterator[None]:
    """Let the names in objects of JSON and YAML be strings that count how often they are compared."""
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

    def loads(text: Any, *, object_pairs_hook: Callable[[Any], Any] | None = None, **more: Any) -> Any:
        if object_pairs_hook is None:
            return plain_loads(text, **more)
        counted = lambda items: object_pairs_hook([(Name(name), value) for name, value in items])  # noqa: E731
        return plain_loads(text, object_pairs_hook=counted, **more)

    def compose_scalar_node(composer: yaml.composer.Composer, anchor: Any) -> yaml.ScalarNode:
        node = plain_compose(composer, anchor)
        node.value = Name(node.value)
        return node

    plain_loads = json.loads
    plain_compose = yaml.composer.Composer.compose_scalar_node
    with patch("json.loads", loads), patch.object(yaml.composer.Composer, "compose_scalar_node", compose_scalar_node):
        yield


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition; TimeoutError after `seconds`, so that a hang ends. `what` says what did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.01)
