"""Store the settings chosen for a text, with the request and the reasons, in a run directory.

The same command finds them there, so a run resumes with its settings instead of timing the machine
again.
Tests: tests/planning/test_choose_run.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_scratch.config import RunConfig, from_dict, to_dict
from llm_scratch.errors import UserError
from llm_scratch.planning.text_facts import TextFacts
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.older_formats import upgrade_settings

FILE = "choice.json"


@dataclass(frozen=True)
class Choice:
    """Settings that were chosen for a text."""

    request: dict[str, Any]
    """of the user: source, minutes, explicit settings"""
    config: RunConfig
    lines: dict[str, str]
    """the choices with reasons: a subject such as "model" -> a sentence"""
    prompts: tuple[str, ...]
    """prompts from the text"""
    facts: TextFacts
    fingerprint: str
    """of the text, `data.corpus.TextFingerprint.sha256`;
    "" for token shards, whose index has hashes
    """

    def save(self, run: Path) -> None:
        """Write choice.json into a run directory."""
        values = {**vars(self), "config": to_dict(self.config), "facts": vars(self.facts)}
        atomic_write(run / FILE, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, run: Path) -> Choice | None:
        """Read the choice of a run; None if it has no valid one."""
        try:
            values = json.loads((run / FILE).read_text(encoding="utf-8"))
            parts = {
                "config": from_dict(RunConfig, upgrade_settings(values["config"])),
                "facts": TextFacts(**values["facts"]),
            }
            return cls(**values | parts | {"prompts": tuple(values["prompts"])})
        except (OSError, ValueError, TypeError, KeyError, UserError):
            return None
