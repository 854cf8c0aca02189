"""Commands of `chat`, such as /set and /retry; any other input goes to the model.

Tests: tests/cli/test_chat.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.cli.terminal import console, print_line, table
from llm_scratch.cli.token_printer import print_legend, sanitize_chunk, supports_color
from llm_scratch.errors import UserError, unknown
from llm_scratch.formatting import sanitize
from llm_scratch.generation.chat import Conversation
from llm_scratch.ranges import RANGES, check
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from llm_scratch.cli.chat_session import ChatSession


def set_(session: ChatSession, argument: str) -> None:
    """`/set NAME VALUE`: a sampling flag, max_tokens, seed or system; `off` resets a flag."""
    name, _, value = argument.removeprefix("parameter ").strip().partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    names = [*SamplingFlags.__dataclass_fields__, "max_tokens", "seed", "system"]
    if name not in names:
        if name:
            raise unknown("setting", name, names)
        raise UserError(f"/set needs a name and a value; names: {', '.join(names)}")
    if name == "system":
        session.conversation.system = value.strip('"')
        return
    number = _number(name, value)
    if name == "logit_bias":
        replace(session.sampling, logit_bias=number).kwargs()  # raises for invalid ids and numbers
    else:
        check(name, number, f"/set {name}")
    if name in ("max_tokens", "seed"):
        if name == "max_tokens" and number is None:
            raise UserError("/set max_tokens: a value is missing; give a whole number")
        setattr(session, name, number)
    else:
        session.sampling = replace(session.sampling, **{name: number})
    print(f"{name} is {value if number is not None else 'off'}")


def _number(name: str, value: str) -> Any:
    """Parse the value of a setting; None for `off`."""
    if value in ("off", "none", ""):
        return "" if name == "logit_bias" else None
    if name == "logit_bias":
        return value
    try:
        return int(value) if RANGES[name].whole else float(value)
    except ValueError as e:
        raise UserError(
            f"{name} is {value!r};"
            f" expected {'a whole number' if RANGES[name].whole else 'a number'}, or off"
        ) from e


def show(session: ChatSession, argument: str) -> None:
    """`/show`: the model and the settings; `/show history`: the turns so far."""
    if argument == "history":
        if not session.conversation.turns:
            print_line("There are no turns yet.")
        for role, text in session.conversation.turns:
            print(f"{role}: {sanitize_chunk(text)}")
        return
    grid = table("", "", left=2)
    grid.show_header = False
    given = (
        {"temperature": 0.8}
        | session.sampling.kwargs()
        | {
            "max_tokens": session.max_tokens,
            "seed": "random" if session.seed is None else session.seed,
        }
    )
    rows = {
        "model": session.run,
        **given,
        "system": session.conversation.system or "none",
        "turns": len(session.conversation.turns),
    }
    for name, value in rows.items():
        grid.add_row(name, str(value))
    console().print(grid)


def load(session: ChatSession, argument: str) -> None:
    """`/load FILE.json`: load a conversation of /save; `/load RUN`: load another model."""
    if not argument:
        raise UserError(
            "/load: the argument is missing; give a conversation (a .json file) or a run"
        )
    if argument.endswith(".json"):
        session.conversation = Conversation.load(expand_user(argument))
        session.ended = False
        print(f"{len(session.conversation.turns)} turns from {argument}")
    else:
        session.load_model(str(expand_user(argument)))


def save(session: ChatSession, argument: str) -> None:
    """`/save FILE.json`: save the conversation."""
    if not argument.endswith(".json"):
        raise UserError("/save: not the name of a .json file; use a name such as chat.json")
    session.conversation.save(expand_user(argument))
    print(f"{len(session.conversation.turns)} turns in {argument}")


def clear(session: ChatSession, argument: str) -> None:
    """`/clear`: start a new conversation."""
    session.conversation.turns.clear()
    print("new conversation")


def probs(session: ChatSession, argument: str) -> None:
    """`/probs`: turn token colors by probability on or off."""
    session.show_probs = argument == "on" if argument in ("on", "off") else not session.show_probs
    print(f"probabilities are {'on' if session.show_probs else 'off'}")
    if session.show_probs and supports_color():
        print_legend()


def retry(session: ChatSession, argument: str) -> None:
    """`/retry`: replace the last answer by another."""
    session.retry()


def undo(session: ChatSession, argument: str) -> None:
    """`/undo`: remove the last answer and its input."""
    removed = session.conversation.remove_answer()
    session.conversation.turns.pop()
    session.ended = False
    print_line(f"removed: {sanitize(' '.join(removed.split()))}")


def say(session: ChatSession, argument: str) -> None:
    """`/say TEXT`: send any text, also one that starts with / or \"\"\"; `//TEXT`: short for it."""
    if not argument.strip():
        raise UserError("/say: the text is missing; give one after /say")
    session.reply(argument)


def transcript(session: ChatSession, argument: str) -> None:
    """`/transcript`: turn the transcript of the whole conversation as the prompt on or off."""
    conversation = session.conversation
    conversation.transcript = (
        argument == "on" if argument in ("on", "off") else not conversation.transcript
    )
    print_line(session.prompt_description())


def show_help(session: ChatSession, argument: str) -> None:
    """`/?`: list the commands."""
    grid = table("", "", left=2)
    grid.show_header = False
    for command in dict.fromkeys(COMMANDS.values()):
        text = " ".join((command.__doc__ or "").split())
        for usage, about in re.findall(r"`(.+?)`: ([^`]+?)(?:; (?=`)|\.$)", text):
            grid.add_row(usage, about)
    for usage, about in KEYS.items():
        grid.add_row(usage, about)
    console().print(grid)


def temp(session: ChatSession, argument: str) -> None:
    """`/temp 0.7`: short for /set temperature."""
    set_(session, f"temperature {argument}")


def topk(session: ChatSession, argument: str) -> None:
    """`/topk 40`: short for /set top_k."""
    set_(session, f"top_k {argument}")


KEYS = {
    '"""': "starts and ends a text of several lines",
    "Enter": "continues the last text",
    "Tab": "completes commands and paths",
    "Ctrl-C": "stops an answer",
    "Ctrl-D or /bye": "exits",
}
COMMANDS: dict[str, Callable[[ChatSession, str], None]] = {
    "/set": set_,
    "/temp": temp,
    "/topk": topk,
    "/probs": probs,
    "/show": show,
    "/save": save,
    "/load": load,
    "/retry": retry,
    "/undo": undo,
    "/say": say,
    "/transcript": transcript,
    "/clear": clear,
    "/?": show_help,
    "/help": show_help,
}


def run_command(session: ChatSession, line: str) -> bool:
    """Run the command in a line, or send the line to the model; returns False for /bye.

    Raises:
        UserError: an unknown command, or an invalid value.
    """
    if not line.strip():
        session.continue_answer()
        return True
    if not line.startswith("/"):
        session.reply(line)
        return True
    if line.startswith("//"):
        session.reply(line[1:])
        return True
    name, _, argument = line.partition(" ")
    name = name.strip()
    if name in ("/bye", "/exit", "/quit"):
        return False
    if name not in COMMANDS:
        error = unknown("command", name, [*COMMANDS, "/bye"])
        separator = " " if str(error).endswith("?") else "; "
        raise UserError(f"{error}{separator}/{line.strip()} sends it as text", error.code)
    COMMANDS[name](session, argument if name == "/say" else argument.strip())
    return True
