"""Parse a command line into a command's dataclass: tyro parses, errors become one line.

`--train.eval-every` and `--train.eval_every` are the same flag;
the error for an unknown flag names the nearest one.
Tests: tests/cli/test_flags.py.
"""

from __future__ import annotations

import difflib
import inspect
import io
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro
from tyro.conf import Positional, arg

from llm_scratch.cli.narrow import (
    CAPTURE_COLUMNS,
    MIN_HELP_COLUMNS,
    at_least_columns,
    terminal_columns,
    unboxed,
)
from llm_scratch.errors import UserError
from llm_scratch.ranges import OutOfRange, check, range_of
from llm_scratch.storage.user_folders import expand_user

T = TypeVar("T")
_POSITIONAL = Positional[str].__metadata__[0]  # type: ignore[attr-defined]


def option(metavar: str, name: str | None = None, help: str | None = None) -> Any:
    """Describe an optional flag for the help: `--out FOLDER`, without "(default: None)".

    Args:
        metavar: the placeholder of its value.
        name: the flag, if it differs from the field's name.
        help: its help text, if it is computed (default: the string below the field).
    """
    return arg(name=name, metavar=metavar, help=help, help_behavior_hint="")


Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")]
"""A flag without a value, such as `--fresh`."""

Hidden = Annotated[T, tyro.conf.Fixed, tyro.conf.Suppress]
"""A field without a flag, for a value that `defaults` passes to `run`."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags of every command."""

    import_: Annotated[str, option("FILE", "import")] = ""
    """a Python file to run first; it can add models, sources, optimizers or presets"""
    debug: Flag = False
    """show the traceback of an error"""
    quiet: Flag = False
    """print results, warnings and errors only"""


@dataclass(frozen=True, kw_only=True)
class ReportCommand(Command):
    """Flags of commands that report; with `json`, `run` calls `output.print_json`."""

    json: Flag = False
    """print the result as JSON (keys: docs/json.md)"""


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields; cached, as Python evaluates each annotation."""
    return get_type_hints(cls, include_extras=True)


def flag_arity(cls: type, prefix: str = "", chosen: Any = None) -> dict[str, int]:
    """Each flag of a dataclass, such as `--model.emb-dim`, and the number of words that it takes.

    Args:
        cls: the dataclass.
        prefix: of the flags.
        chosen: an instance of it, whose model has an architecture;
            None: flags of every architecture.
    """
    flags = {}
    hints = _hints(cls)
    for f in fields(cls):
        hint, name = hints[f.name], prefix + f.name.rstrip("_").replace("_", "-")
        marks = getattr(hint, "__metadata__", ())
        if marks:
            hint = hint.__origin__
        if tyro.conf.Suppress in marks:
            continue
        if is_dataclass(hint):
            part = None if chosen is None else getattr(chosen, f.name)
            for kind in _classes(hint) if part is None else [type(part)]:
                flags.update(flag_arity(kind, f"{name}.", part))
        elif hint is bool:
            flags[f"--{name}"] = 0
            if tyro.conf.FlagCreatePairsOff not in marks:
                flags[f"--{prefix}no-{name.removeprefix(prefix)}"] = 0
        elif _POSITIONAL not in marks:
            flags[f"--{name}"] = (
                len(hint.__args__) if getattr(hint, "__origin__", None) is tuple else 1
            )
    return flags


def _classes(hint: Any) -> list[type]:
    """The dataclasses that a field may hold: for a model, the settings of every architecture."""
    # here: most commands have no flags of a model
    from llm_scratch.architectures import ARCHITECTURES, ModelConfig

    if hint is ModelConfig:
        return [architecture.config for architecture in ARCHITECTURES.values()]
    return [hint]


def split_args(cls: type, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split a command line into positional words and flags, each flag with its first value.

    Raises:
        UserError: an unknown flag; names the nearest one.
    """
    known = flag_arity(cls)
    words: list[str] = []
    set_flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":  # ends the options; the rest is text
            return [*words, *rest], set_flags
        flag, has_value, value = word.partition("=")
        flag = flag.replace("_", "-")
        if not re.fullmatch(r"--[a-zA-Z][\w.-]*", flag) or flag == "--help":
            words += [word] if word != "-h" and word != "--help" else []
        elif flag not in known:
            raise _unknown(flag, list(known), _takes_text(cls))
        elif has_value:
            set_flags[flag] = value
        else:
            values, rest = rest[: known[flag]], rest[known[flag] :]
            set_flags[flag] = values[0] if values else ""
    return words, set_flags


def _unknown(flag: str, known: list[str], takes_text: bool) -> UserError:
    """The error for an unknown flag; for `--lr` it suggests `--train.lr`."""
    near = difflib.get_close_matches(flag, known, n=1, cutoff=0.75)
    if not near:
        last = {name.split(".")[-1].lstrip("-"): name for name in reversed(known)}
        near = [
            last[name]
            for name in difflib.get_close_matches(flag.split(".")[-1].lstrip("-"), last, n=1)
        ]
    kind, shown = ("setting", flag.lstrip("-")) if "." in flag else ("option", flag)
    if near and "." in near[0] and kind == "setting":
        near = [near[0].lstrip("-")]
    hint = f"did you mean {near[0]!r}?" if near else "--help lists all"
    if takes_text and not near:
        hint += "; write -- before a text that begins with a dash"
    return UserError(f"unknown {kind} {shown!r}; {hint}")


def parse(cls: type[T], argv: Sequence[str], prog: str) -> T:
    """Parse the words of a command into its dataclass.

    A class method `defaults(words, set_flags, help_requested)` gives the values before flags.

    Raises:
        UserError: an unknown flag, a value of the wrong type, a missing argument; one line.
        SystemExit: with code 0, after `--help`.
    """
    options = before_end_of_options(argv)
    if file := _value_of("--import", options):
        # first: it may register an architecture, whose settings are flags
        import_user_file(with_home(file))
    words, set_flags = split_args(cls, argv)
    flags = {f"--{path_field}" for path_field in path_fields(cls)}
    set_flags = {
        flag: with_home(value) if flag in flags else value for flag, value in set_flags.items()
    }
    help_requested = "-h" in options or "--help" in options
    defaults = getattr(cls, "defaults", None)
    start: dict[str, Any] = (
        {}
        if defaults is None
        else {"default": defaults([with_home(word) for word in words], set_flags, help_requested)}
    )
    if start:
        _check_model_flags(cls, start["default"], set_flags)
    complaint = io.StringIO()
    narrow = help_requested and terminal_columns() < MIN_HELP_COLUMNS
    # tyro chooses its box characters by the encoding
    boxes = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        # tyro breaks words on a narrow terminal, and does not end on the narrowest
        with (
            redirect_stderr(complaint),
            redirect_stdout(boxes if narrow else sys.stdout),
            at_least_columns(CAPTURE_COLUMNS if narrow else MIN_HELP_COLUMNS),
        ):
            command = tyro.cli(
                cls,
                args=list(argv),
                prog=prog,
                description=inspect.getdoc(cls),
                config=(tyro.conf.HelptextFromCommentsOff,),
                **start,
            )
        check_numbers(command)
        return _with_home_folders(command)
    except OutOfRange as e:
        raise e.shown_as(_flag_of(cls, e.name)) from None
    except SystemExit as e:
        if not e.code and narrow:
            boxes.seek(0)
            print(unboxed(boxes.read(), terminal_columns()))
        if not e.code:
            raise
        raise UserError(f"{_on_one_line(complaint.getvalue())}; see `{prog} --help`") from None


def _check_model_flags(cls: type, chosen: Any, set_flags: Mapping[str, str]) -> None:
    """Check that the flags of the model are settings of its architecture.

    Args:
        cls: the dataclass of a command.
        chosen: an instance with the model's settings before flags.
        set_flags: the flags of the command line.
    Raises:
        UserError: a flag belongs to another architecture.
    """
    from llm_scratch.architectures import check_setting

    own = flag_arity(cls, chosen=chosen)
    for flag in set_flags:
        if flag not in own:
            name = flag.removeprefix("--model.").removeprefix("no-").replace("-", "_")
            check_setting(chosen.model.architecture, name, flag)


def _value_of(flag: str, argv: Sequence[str]) -> str:
    """The value of a flag, which is the next word or follows "="; "" without the flag."""
    for word, following in zip(argv, [*argv[1:], ""]):
        if word == flag or word.startswith(f"{flag}="):
            return following if word == flag else word.partition("=")[2]
    return ""


PATH_METAVARS = frozenset({"FILE", "FOLDER", "RUN", "PATH", "MODEL", "SOURCE", "TOKENIZER"})
"""Placeholders in the help of arguments that are paths, or can be."""


def before_end_of_options(argv: Sequence[str]) -> Sequence[str]:
    """The words before `--`, which ends the options."""
    return argv[: argv.index("--")] if "--" in argv else argv


def path_fields(cls: type) -> dict[str, str]:
    """Arguments that are paths: name of the flag -> field, {"json-schema": "json_schema"}."""
    return {
        name.rstrip("_").replace("_", "-"): name
        for name, marks in _marks(cls).items()
        if _metavars(marks) & PATH_METAVARS
    }


def _takes_text(cls: type) -> bool:
    """Whether a word of the command line may be any text, such as a prompt."""
    return any(
        _POSITIONAL in marks and _metavars(marks) & {"PROMPT", "TEXT"}
        for marks in _marks(cls).values()
    )


def _marks(cls: type) -> dict[str, tuple[Any, ...]]:
    """The annotations of each field."""
    return {f.name: getattr(_hints(cls)[f.name], "__metadata__", ()) for f in fields(cls)}


def _metavars(marks: tuple[Any, ...]) -> set[str]:
    """The placeholders of an argument in the help."""
    return {word for mark in marks for word in (getattr(mark, "metavar", None) or "").split("|")}


def with_home(path: str) -> str:
    """Replace a leading `~`, which the shell leaves in a quoted word, by the home folder.

    Raises:
        UserError: the home folder is unknown.
    """
    return str(expand_user(path)) if path.startswith("~") else path


def _with_home_folders(command: Any) -> Any:
    """The command with `with_home` applied to all its paths."""
    changes: dict[str, Any] = {}
    for name in path_fields(type(command)).values():
        value = getattr(command, name)
        changes[name] = (
            tuple(map(with_home, value)) if isinstance(value, tuple) else with_home(value)
        )
    return replace(command, **changes)


def check_numbers(command: Any) -> None:
    """Check that the number of each flag is in the range of its setting (`ranges.RANGES`).

    Raises:
        OutOfRange: a number is not; names the setting.
    """
    for f in fields(command):
        name, value, owner = f.name.rstrip("_"), getattr(command, f.name), type(command).__name__
        if range_of(name, owner) is not None and not isinstance(value, str):
            check(name, value, owner=owner)


def _flag_of(cls: type, name: str) -> str:
    """The flag of a setting: `--train.lr` for "lr"."""
    word = name.replace("_", "-")
    return next((flag for flag in flag_arity(cls) if re.split(r"--|\.", flag)[-1] == word), name)


_REPHRASED_ERRORS: Mapping[str, str] = {
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)": (
        r"\1 is \2; expected a whole number"
    ),
    r"Error parsing (\S+): could not convert string to float: (.*)": r"\1 is \2; expected a number",
    r"Error parsing (\S+): (.*)": r"\1: \2",
    r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)\.": (
        r"\2 is \1; expected one of \3"
    ),
    r"Missing value for argument '(.*)'\. Expected 1 values\.": r"\1 needs a value",
    r"Missing value for argument '(.*)'\. Expected (\d+) values\.": r"\1 needs \2 values",
    r"Unrecognized options: (.*)": r"unexpected \1",
    r"Missing from .*?: (\S+) .*": r"\1 is missing",
}


def _on_one_line(box: str) -> str:
    """Extract the message from an error box of tyro, without title and help."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in box.splitlines()]
    # without box characters, a rule follows the title
    inside = lines[1:] if box.lstrip().startswith("╭") else lines[2:]
    rule = next(
        (i for i, line in enumerate(inside) if re.fullmatch(r"[─-]{3,}|╰.*", line)), len(inside)
    )
    message = " ".join(" ".join(inside[:rule]).split())
    for pattern, plain in _REPHRASED_ERRORS.items():
        if re.fullmatch(pattern, message):
            return re.sub(pattern, plain, message)
    return message


def import_user_file(file: str) -> None:
    """Run the Python file that `--import` names.

    Raises:
        UserError: no such file, or an error inside it.
    """
    from llm_scratch.storage.user_code import run_user_file

    run_user_file(Path(file), f"--import {file}")
