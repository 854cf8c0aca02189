"""What a typed line does in a conversation: a text goes to the model, a line that begins with / is a command, as in ollama.

Tests: tests/cli/test_chat.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_scratch.cli.conversation import Conversation
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.cli.terminal import console, print_line, table
from llm_scratch.cli.token_printer import print_legend, sanitize_chunk, supports_color
from llm_scratch.errors import UserError, unknown
from llm_scratch.formatting import sanitize
from llm_scratch.ranges import RANGES, check
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from llm_scratch.cli.commands.chat import ChatSession


def set_(talk: ChatSession, words: str) -> None:
    """`/set NAME VALUE`: a sampler's flag, tokens, seed or system, or off to take a sampler back."""
    name, _, value = words.removeprefix("parameter ").strip().partition(" ")
    name, value = name.replace("-", "_"), value.strip()
    names = [*SamplingFlags.__dataclass_fields__, "max_tokens", "seed", "system"]
    if name not in names:
        raise unknown("setting", name, names) if name else UserError(f"/set needs a name and a value; names: {', '.join(names)}")
    if name == "system":
        talk.conversation.system = value.strip('"')
        return
    number = _number(name, value)
    if name == "logit_bias":
        replace(talk.samplers, logit_bias=number).settings()  # refuses ids and numbers that cannot be
    else:
        check(name, number, f"/set {name}")
    if name in ("max_tokens", "seed"):
        if name == "max_tokens" and number is None:
            raise UserError("/set max_tokens needs a whole number")
        setattr(talk, name, number)
    else:
        talk.samplers = replace(talk.samplers, **{name: number})
    print(f"{name} is {value if number is not None else 'off'}")


def _number(name: str, value: str) -> Any:
    """What a word means to a setting; None for `off`."""
    if value in ("off", "none", ""):
        return "" if name == "logit_bias" else None
    if name == "logit_bias":
        return value
    try:
        return int(value) if RANGES[name].whole else float(value)
    except ValueError as e:
        raise UserError(f"{name} is {value!r}; expected {'a whole number' if RANGES[name].whole else 'a number'}, or off") from e


def show(talk: ChatSession, words: str) -> None:
    """`/show`: the model and the settings; `/show history`: what was said."""
    if words == "history":
        if not talk.conversation.turns:
            print_line("There are no turns yet.")
        for who, what in talk.conversation.turns:
            print(f"{who}: {sanitize_chunk(what)}")
        return
    grid = table("", "", left=2)
    grid.show_header = False
    given = (
        {"temperature": 0.8}
        | talk.samplers.settings()
        | {"max_tokens": talk.max_tokens, "seed": "by chance" if talk.seed is None else talk.seed}
    )
    rows = {"model": talk.run, **given, "system": talk.conversation.system or "none", "turns": len(talk.conversation.turns)}
    for name, value in rows.items():
        grid.add_row(name, str(value))
    console().print(grid)


def load(talk: ChatSession, words: str) -> None:
    """`/load FILE.json`: a conversation that /save wrote; `/load RUN`: another model."""
    if not words:
        raise UserError("/load needs a conversation (a .json file) or a run")
    if words.endswith(".json"):
        talk.conversation = Conversation.load(expand_user(words))
        talk.ended = False
        print(f"{len(talk.conversation.turns)} turns from {words}")
    else:
        talk.open(str(expand_user(words)))


def save(talk: ChatSession, words: str) -> None:
    """`/save FILE.json`: the conversation."""
    if not words.endswith(".json"):
        raise UserError("/save needs a name that ends in .json")
    talk.conversation.save(expand_user(words))
    print(f"{len(talk.conversation.turns)} turns in {words}")


def clear(talk: ChatSession, words: str) -> None:
    """`/clear`: forget what was said."""
    talk.conversation.turns.clear()
    print("forgotten")


def probs(talk: ChatSession, words: str) -> None:
    """`/probs`: color tokens by their probability, on or off."""
    talk.probs = words == "on" if words in ("on", "off") else not talk.probs
    print(f"probabilities are {'on' if talk.probs else 'off'}")
    if talk.probs and supports_color():
        print_legend()


def retry(talk: ChatSession, words: str) -> None:
    """`/retry`: another answer in place of the last."""
    talk.retry()


def undo(talk: ChatSession, words: str) -> None:
    """`/undo`: remove the last answer and the text before it."""
    removed = talk.conversation.remove_answer()
    talk.conversation.turns.pop()
    talk.ended = False
    print_line(f"removed: {sanitize(' '.join(removed.split()))}")


def say(talk: ChatSession, words: str) -> None:
    """`/say TEXT`: any text, also one that begins with / or \"\"\"; `//TEXT`: short for /say /TEXT."""
    if not words.strip():
        raise UserError("/say needs a text")
    talk.answer(words)


def transcript(talk: ChatSession, words: str) -> None:
    """`/transcript`: prompt the model with the whole conversation, or only with what was typed last: on or off."""
    conversation = talk.conversation
    conversation.transcript = words == "on" if words in ("on", "off") else not conversation.transcript
    print_line(talk.form())


def show_help(talk: ChatSession, words: str) -> None:
    """`/?`: this list."""
    grid = table("", "", left=2)
    grid.show_header = False
    for command in dict.fromkeys(COMMANDS.values()):
        for usage, about in re.findall(r"`(.+?)`: ([^`]+?)(?:; (?=`)|\.$)", command.__doc__ or ""):
            grid.add_row(usage, about)
    for usage, about in KEYS.items():
        grid.add_row(usage, about)
    console().print(grid)


def temp(talk: ChatSession, words: str) -> None:
    """`/temp 0.7`: short for /set temperature."""
    set_(talk, f"temperature {words}")


def topk(talk: ChatSession, words: str) -> None:
    """`/topk 40`: short for /set top_k."""
    set_(talk, f"top_k {words}")


KEYS = {
    '"""': "begins and ends a text of several lines",
    "Enter": "continues the last text",
    "Tab": "completes commands and paths",
    "Ctrl-C": "stops an answer",
    "Ctrl-D or /bye": "leaves",
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


def run_command(talk: ChatSession, line: str) -> bool:
    """Do what a typed line says; False for /bye.

    Raises:
        UserError: no such command, or a value that it refuses.
    """
    if not line.strip():
        talk.continue_answer()
        return True
    if not line.startswith("/"):
        talk.answer(line)
        return True
    if line.startswith("//"):
        talk.answer(line[1:])
        return True
    name, _, words = line.partition(" ")
    name = name.strip()
    if name in ("/bye", "/exit", "/quit"):
        return False
    if name not in COMMANDS:
        error = unknown("command", name, [*COMMANDS, "/bye"])
        separator = " " if str(error).endswith("?") else "; "
        raise UserError(f"{error}{separator}/{line.strip()} sends it as text", error.code)
    COMMANDS[name](talk, words if name == "/say" else words.strip())
    return True
