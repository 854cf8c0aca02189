"""Store the measured skills of a model in its run directory: read and write skills.json.

Tests: tests/evaluation/test_skill_results.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_scratch.storage.files import atomic_write

FILE = "skills.json"


@dataclass(frozen=True)
class SkillScore:
    """The accuracy of a model on the probes of a skill.

    Attributes:
        skill: "name", "pronoun", "object", "count" or "order".
        accuracy: share of probes in which the true answer was the most probable one.
        chance: accuracy of guessing among the answers.
        n: number of probes.
        stderr: standard error of the accuracy.
    """

    skill: str
    accuracy: float
    chance: float
    n: int
    stderr: float


@dataclass(frozen=True)
class SkillExample:
    """A question of a skill, and the model's probability of each answer.

    Attributes:
        skill: one of `SKILLS`.
        prompt: the story up to the question.
        answers: the true answer first.
        probabilities: of each answer, relative to the others: they sum to 1.
    """

    skill: str
    prompt: str
    answers: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class SkillResults:
    """Skills and loss on validation stories, measured after training.

    Attributes:
        bits_per_byte: of the model on the stories.
        floor_bits_per_byte: entropy of the same stories, the lowest loss that a model can reach on
            average.
        scores: one for each skill.
        examples: a question of each skill with the model's answers; none in files of older
            versions.
        step: optimizer steps of the run at the measurement; None in files of older versions.
    """

    bits_per_byte: float
    floor_bits_per_byte: float
    scores: tuple[SkillScore, ...]
    examples: tuple[SkillExample, ...] = ()
    step: int | None = None

    def save(self, run: Path) -> None:
        """Write skills.json into a run directory."""
        values = asdict(self)
        values["skills"] = {score["skill"]: score for score in values.pop("scores")}
        atomic_write(run / FILE, json.dumps(values, indent=1) + "\n")


def read_skills(run: Path) -> SkillResults | None:
    """Read the skills of a run; None if they were not measured, or the file is invalid."""
    try:
        values = json.loads((run / FILE).read_text(encoding="utf-8"))
        return _from_json(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _from_json(values: Mapping[str, Any]) -> SkillResults:
    """The results in parsed JSON.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the JSON is not of this form.
    """
    bits = float(values["bits_per_byte"])
    floor = float(values["floor_bits_per_byte"])
    if not (math.isfinite(bits) and math.isfinite(floor) and floor > 0):
        raise ValueError("the loss and its floor are not positive numbers")
    scores = [
        SkillScore(
            str(name),
            float(score["accuracy"]),
            float(score["chance"]),
            int(score["n"]),
            float(score["stderr"]),
        )
        for name, score in values["skills"].items()
    ]
    examples = [
        SkillExample(
            str(example["skill"]),
            str(example["prompt"]),
            tuple(str(answer) for answer in example["answers"]),
            tuple(float(probability) for probability in example["probabilities"]),
        )
        for example in values.get("examples", ())
    ]
    step = values.get("step")
    return SkillResults(
        bits, floor, tuple(scores), tuple(examples), None if step is None else int(step)
    )
