"""A conversation as the text that a base model continues: what was typed itself, or a transcript with the names of the speakers.

Tests: tests/cli/test_chat.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.files import atomic_write

YOU, MODEL = "You", "Model"
STOP_STRINGS = [f"\n{YOU}:", f"\n{MODEL}:"]
"""where a model begins to speak for somebody else"""


@dataclass
class Conversation:
    """What was said.

    Attributes:
        system: a text that stands before everything, such as who is speaking.
        turns: (who, what), YOU and MODEL in turn.
        left_out: how many of the oldest turns the last prompt had no room for.
        transcript: whether the prompt is a transcript of all turns; otherwise it is the last text that was typed,
            with what the model has added to it.
    """

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    transcript: bool = False

    def prompt(self, fits: Callable[[str], bool]) -> str:
        """The text for the model to continue; of a transcript, the oldest turns are left out while it does not fit.

        Example: `Hello!`, or as a transcript `You: Hello!\\nModel:`
        """
        before = [f"{self.system}\n"] if self.system else []
        if not self.transcript:
            last = max(number for number, (who, _) in enumerate(self.turns) if who == YOU)
            return "\n".join([*before, "".join(what for _, what in self.turns[last:])])
        for begin in range(len(self.turns)):
            lines = [f"{who}: {what.strip()}" for who, what in self.turns[begin:]]
            text = "\n".join([*before, *lines, f"{MODEL}:"])
            self.left_out = begin
            if fits(text):
                break
        return text

    def remove_answer(self) -> str:
        """Remove the model's last answer; returns what it answered.

        Raises:
            UserError: there is no answer.
        """
        answered = bool(self.turns) and self.turns[-1][0] == MODEL
        before = self.turns[: len(self.turns) - answered]
        if not before or before[-1][0] != YOU:
            raise UserError("nothing was said yet; type a text first")
        self.turns = before
        return before[-1][1]

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, whole or not at all."""
        atomic_write(path, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what `save` wrote.

        Raises:
            UserError: no such file, or not a conversation (code 3).
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            turns = [(str(who), str(what)) for who, what in data["turns"]]
            return cls(str(data["system"]), turns, bool(data.get("transcript", True)))  # older files are transcripts
        except OSError as e:
            raise UserError(f"{path}: {e.strerror}; expected a conversation that /save wrote", DATA) from e
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path} is not a conversation; expected the JSON that /save writes", DATA) from e
