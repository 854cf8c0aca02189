"""A conversation as a plain transcript, which a model that was taught to continue texts can go on with. Proof: tests/cli/test_chat.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llm_scratch.errors import DATA, UserError
from llm_scratch.files import write_whole

YOU, MODEL = "You", "Model"
STOPS = [f"\n{YOU}:", f"\n{MODEL}:"]
"""where a model begins to speak for somebody else"""


@dataclass
class Conversation:
    """What was said.

    Attributes:
        system: a text that stands before everything, such as who is speaking.
        turns: (who, what), YOU and MODEL in turn.
        left_out: how many of the oldest turns the last prompt had no room for.
    """

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0

    def prompt(self, fits: Callable[[str], bool]) -> str:
        """The transcript up to where the model speaks; the oldest turns are left out while it does not fit.

        Example: `You: Hello!\\nModel:`
        """
        for begin in range(len(self.turns)):
            lines = [f"{who}: {what}" for who, what in self.turns[begin:]]
            text = "\n".join([*([f"{self.system}\n"] if self.system else []), *lines, f"{MODEL}:"])
            self.left_out = begin
            if fits(text):
                break
        return text

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, whole or not at all."""
        write_whole(path, json.dumps({"system": self.system, "turns": self.turns}, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what `save` wrote.

        Raises:
            UserError: no such file, or not a conversation (code 3).
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(data["system"]), [(str(who), str(what)) for who, what in data["turns"]])
        except OSError as e:
            raise UserError(f"{path}: {e.strerror}; expected a conversation that /save wrote", DATA) from e
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path} is not a conversation; expected the JSON that /save writes", DATA) from e
