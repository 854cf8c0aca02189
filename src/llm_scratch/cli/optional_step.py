"""Work that a command can do without: an error in it is a warning.

Tests: tests/cli/test_train.py.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llm_scratch.cli.terminal import print_warning
from llm_scratch.errors import UserError, describe_error, one_line

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def optional_step(problem: str, again: str, screen: Console, debug: bool = False) -> Iterator[None]:
    """Turn an error inside the block into a warning line: the command can do without it.

    Args:
        problem: what is missing after a failure, such as "skills not measured".
        again: the command that does it, "" if there is none.
        screen: gets the warning.
        debug: print the traceback too.
    """
    try:
        yield
    except Exception as e:
        if debug:
            traceback.print_exc()
        reason = one_line(str(e)) if isinstance(e, UserError) else describe_error(e, named=True)
        hint = f"; to try again: {again}" if again else ""
        print_warning(f"{problem}: {reason}{hint}", screen)
