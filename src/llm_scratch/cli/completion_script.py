"""Shell completion: `llm-scratch --print-completion bash`.

tyro writes the script from the commands' flags.

Tests: tests/cli/test_completion_script.py.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import make_dataclass
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from operator import or_
from typing import Annotated, Any

import tyro

from llm_scratch.errors import USAGE, UserError, unknown

SHELLS = ("bash", "zsh", "fish", "tcsh")


def print_completion(words: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> None:
    """Print the completion script for the shell that is named.

    Args:
        words: what follows `--print-completion`: one of `SHELLS`.
        commands: as `llm_scratch.cli.COMMANDS`: the name of each, its class, what it does.

    Raises:
        UserError: no shell or an unknown one; tcsh without the package shtab.
    """
    if len(words) != 1:
        raise UserError(
            f"--print-completion: expected one shell; give one of {', '.join(SHELLS)}", USAGE
        )
    if words[0] not in SHELLS:
        raise unknown("shell", words[0], SHELLS)
    if words[0] == "tcsh" and find_spec("shtab") is None:
        raise UserError(
            "--print-completion tcsh: needs the package shtab; install it with: pip install shtab",
            USAGE,
        )
    print(completion_script(words[0], commands), end="")


def completion_script(shell: str, commands: Mapping[str, tuple[str, str]]) -> str:
    """The completion script of `commands`, for one of `SHELLS`."""
    groups: dict[str, list[Any]] = {}
    for name, (place, about) in commands.items():
        module, _, class_name = place.rpartition(".")
        command = getattr(import_module(f"llm_scratch.cli.{module}"), class_name)
        group, _, verb = name.rpartition(" ")
        groups.setdefault(group, []).append(
            Annotated[command, tyro.conf.subcommand(verb, description=about)]
        )
    subcommands = groups.pop("")
    for group, members in groups.items():
        holder = make_dataclass(group, [("command", reduce(or_, members))])
        subcommands.append(Annotated[holder, tyro.conf.subcommand(group)])
    written = io.StringIO()
    config = (tyro.conf.OmitSubcommandPrefixes,)
    with redirect_stdout(written):
        try:
            tyro.cli(
                reduce(or_, subcommands),
                prog="llm-scratch",
                args=["--tyro-write-completion", shell, "-"],
                config=config,
            )
        except SystemExit as e:
            if e.code:
                raise
    return written.getvalue()
