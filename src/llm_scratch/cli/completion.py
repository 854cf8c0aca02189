"""Tab completion in `chat`: commands, what follows them, and paths.

Works with GNU readline and libedit; Windows has neither.

Tests: tests/cli/test_completion.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llm_scratch.cli.chat_commands import COMMANDS
from llm_scratch.cli.folders import RUNS_FOLDER
from llm_scratch.cli.sampling_flags import SamplingFlags

SETTINGS = [*(name for name in SamplingFlags.__dataclass_fields__), "max_tokens", "seed", "system"]
ON_OFF = ["on", "off"]


def enable_line_editing() -> bool:
    """Arrow keys, history and Tab completion, where Python has readline.

    Returns:
        Whether control codes in a prompt must be marked,
        so that the editor does not count them as columns.
    """
    try:
        import readline
    except ImportError:
        return False
    matches: list[str] = []

    def complete(word: str, number: int) -> str | None:
        if not number:
            line = readline.get_line_buffer()
            begin = readline.get_begidx()
            matches[:] = completions(line[: readline.get_endidx()], begin)
        return matches[number] if number < len(matches) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    return not libedit


def completions(line: str, begin: int) -> list[str]:
    """Completions of the word at `begin`, in a line that ends at the cursor.

    Example: `completions("/ret", 0)` is `["/retry"]`.
    """
    if not line.startswith("/") or line.startswith("//"):
        return []
    command, space, argument = line.partition(" ")
    if not space:
        names = [f"{name} " if name in ARGUMENTS else name for name in [*COMMANDS, "/bye"]]
        return [name for name in names if name.startswith(command)]
    offset = begin - len(command) - 1  # a path may hold spaces: the word is only its end
    candidates = ARGUMENTS[command](argument) if command in ARGUMENTS else []
    return [candidate[offset:] for candidate in candidates if candidate.startswith(argument)]


def paths(beginning: str) -> list[str]:
    """Files and folders whose path starts with `beginning`, hidden files only after a dot.

    A folder ends with a separator.
    """
    folder, name = os.path.split(beginning)
    matches: list[str] = []
    with suppress(OSError):
        for entry in sorted(Path(os.path.expanduser(folder) or ".").iterdir()):
            if entry.name.startswith(name) and entry.name.startswith(".") <= name.startswith("."):
                matches.append(
                    beginning[: len(beginning) - len(name)]
                    + entry.name
                    + (os.sep if entry.is_dir() else "")
                )
    return matches


def _models(beginning: str) -> list[str]:
    """Conversations and runs: paths, and names in runs/."""
    with suppress(OSError):
        return paths(beginning) + [
            entry.name for entry in sorted(Path(RUNS_FOLDER).iterdir()) if entry.is_dir()
        ]
    return paths(beginning)


ARGUMENTS: dict[str, Callable[[str], list[str]]] = {
    "/load": _models,
    "/save": paths,
    "/set": lambda beginning: [f"{name} " for name in SETTINGS],
    "/show": lambda beginning: ["history"],
    "/probs": lambda beginning: ON_OFF,
    "/transcript": lambda beginning: ON_OFF,
}
"""command -> completions of its argument, from the beginning of the argument"""
