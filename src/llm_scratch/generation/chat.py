"""A chat as the prompt of a base model: the last user input, or a transcript of all turns.

Tests: tests/cli/test_chat.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.files import atomic_write

USER = "You"
ASSISTANT = "Model"
STOP_STRINGS = [f"\n{USER}:", f"\n{ASSISTANT}:"]
"""texts that end an answer, since the model would continue with the next turn"""


@dataclass
class Conversation:
    """The turns of a chat.

    Attributes:
        system: text before the first turn, such as who is speaking.
        turns: (role, text), alternating between USER and ASSISTANT.
        left_out: number of oldest turns that the last prompt had no space for.
        transcript: whether the prompt is a transcript of all turns; otherwise it is the last user
            input with the continuation so far.
    """

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    transcript: bool = False

    def prompt(self, fits: Callable[[str], bool]) -> str:
        """The prompt for the model; a transcript leaves out the oldest turns until it fits.

        Example: `Hello!`, or as a transcript `You: Hello!\\nModel:`
        """
        before = [f"{self.system}\n"] if self.system else []
        if not self.transcript:
            last = max(number for number, (role, _) in enumerate(self.turns) if role == USER)
            return "\n".join([*before, "".join(text for _, text in self.turns[last:])])
        for begin in range(len(self.turns)):
            lines = [f"{role}: {turn.strip()}" for role, turn in self.turns[begin:]]
            text = "\n".join([*before, *lines, f"{ASSISTANT}:"])
            self.left_out = begin
            if fits(text):
                break
        return text

    def remove_answer(self) -> str:
        """Remove the model's last answer, and return the user input before it.

        Raises:
            UserError: the conversation has no turn yet.
        """
        answered = bool(self.turns) and self.turns[-1][0] == ASSISTANT
        before = self.turns[: len(self.turns) - answered]
        if not before or before[-1][0] != USER:
            raise UserError("no turns yet; type a text first")
        self.turns = before
        return before[-1][1]

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, atomically."""
        atomic_write(path, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Load a conversation that `save` wrote.

        Raises:
            UserError: no such file, or not a conversation (code 3).
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            turns = [(str(role), str(text)) for role, text in data["turns"]]
            transcript = bool(data.get("transcript", True))  # older files are transcripts
            return cls(str(data["system"]), turns, transcript=transcript)
        except OSError as e:
            raise UserError(
                f"{path}: {e.strerror}; expected a conversation that /save wrote", DATA
            ) from e
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{path} is not a conversation; expected the JSON that /save writes", DATA
            ) from e
