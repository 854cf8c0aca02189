"""A learner's folder: answers as files, and which exercises are solved.

    exercises/progress.json
    exercises/0_3_rows_that_add_up_to_1.py

Tests: tests/learn/test_progress.py.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_scratch.errors import DATA, UserError
from llm_scratch.learn.exercise import KINDS, Exercise, Verdict, grade
from llm_scratch.learn.hang_guard import (
    MAX_STEPS,
    StepLimitError,
    describe_failure,
    hang_guard,
)
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_json

DEFAULT_FOLDER = "exercises"


@dataclass
class Record:
    """How far a learner is with one exercise.

    Attributes:
        shown: whether the question was shown, so that its numbers are known.
        solved: whether an answer was right.
        attempts: wrong answers.
        hints: hints that are open.
    """

    shown: bool = False
    solved: bool = False
    attempts: int = 0
    hints: int = 0


class Progress:
    """The state of a learner's folder; `save` writes it.

    Raises:
        UserError: its file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "progress.json"
        self.seed = secrets.token_hex(4)
        self.records: dict[str, Record] = {}
        if not self.path.is_file():
            return
        try:
            data = read_json(self.path, DATA)
            self.seed = str(data["seed"])
            self.records = {name: Record(**fields) for name, fields in data["exercises"].items()}
        except (UserError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{self.path}: not readable; move it away to start again", DATA) from e

    def save(self) -> None:
        """Write progress.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = {
            "seed": self.seed,
            "exercises": {name: asdict(record) for name, record in self.records.items()},
        }
        atomic_write(self.path, json.dumps(data, indent=1) + "\n")

    def record(self, exercise: Exercise) -> Record:
        """The record of an exercise, to read or change."""
        return self.records.setdefault(exercise.id, Record())

    def next_exercise(self) -> Exercise | None:
        """The first exercise that is not solved; None after the last one."""
        solved = {name for name, record in self.records.items() if record.solved}
        return next((e for name, e in EXERCISES.items() if name not in solved), None)

    def mark_shown(self, *exercises: Exercise) -> None:
        """Record that these questions were shown."""
        for exercise in exercises:
            self.record(exercise).shown = True
        self.save()

    def question_seed(self, exercise: Exercise) -> str:
        """The seed of the numbers in a question: new ones after each wrong answer."""
        return f"{self.seed} {self.record(exercise).attempts}"

    def file(self, exercise: Exercise) -> Path:
        """Where the code for an exercise belongs."""
        words = re.sub(r"[^a-z0-9]+", "_", f"{exercise.id} {exercise.title}".lower()).strip("_")
        return self.folder / f"{words}.py"

    def begin(self, exercise: Exercise) -> Path:
        """Write the starting file of an exercise, unless it exists already."""
        path = self.file(exercise)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            lines = [
                (
                    f"Exercise {exercise.id}: {exercise.title} ({exercise.kind}:"
                    f" {KINDS[exercise.kind]})"
                ),
                "",
            ]
            lines += exercise.text(self.question_seed(exercise)).splitlines()
            header = "\n".join(f"# {line}".rstrip() for line in lines)
            atomic_write(path, f"{header}\n{exercise.start}")
        return path

    def grade(self, exercise: Exercise, answer: Any) -> Verdict:
        """Grade an answer, and record it."""
        return self._recorded(exercise, grade(exercise, answer, self.question_seed(exercise)))

    def grade_file(self, exercise: Exercise) -> Verdict:
        """Run the exercise's file, grade the function in it, and record the verdict.

        Raises:
            UserError: there is no such file.
        """
        path = self.file(exercise)
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; write it with `llm-scratch learn next {exercise.id}`", DATA
            )
        return self._recorded(exercise, self.verdict_of_file(exercise))

    def verdict_of_file(self, exercise: Exercise, max_steps: int = MAX_STEPS) -> Verdict:
        """Run the exercise's file and grade the function in it; records nothing.

        Args:
            exercise: the exercise.
            max_steps: steps after which the file, or a call of the function, is ended.
        """
        path = self.file(exercise)
        namespace: dict[str, Any] = {"__name__": path.stem}
        try:
            source = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return Verdict(False, f"{path}: not UTF-8; save the file in this encoding")
        try:
            with hang_guard(max_steps):
                exec(compile(source, str(path), "exec"), namespace)
        except (Exception, SystemExit, StepLimitError) as e:
            # `exit()` in a learner's file must not end the grading
            # the message of a SyntaxError ends with file and line, too
            shown = SyntaxError(e.msg) if isinstance(e, SyntaxError) else e
            return Verdict(False, f"{path} {describe_failure(shown, f', line {_line(e)}')}")
        if exercise.function not in namespace:
            return Verdict(
                False,
                f"{path}: it has no function `{exercise.function}`;"
                " keep the name of the one it began with",
            )
        seed = self.question_seed(exercise)
        return grade(exercise, namespace[exercise.function], seed, max_steps)

    def _recorded(self, exercise: Exercise, verdict: Verdict) -> Verdict:
        record = self.record(exercise)
        if verdict.answered:
            record.attempts += not verdict.right
            record.solved = record.solved or verdict.right
        self.save()
        return verdict


def _line(error: BaseException) -> int:
    """The line of a file that is run at which an error was raised, or that cannot be parsed."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    trace = error.__traceback__
    return trace.tb_next.tb_lineno if trace and trace.tb_next else 0
