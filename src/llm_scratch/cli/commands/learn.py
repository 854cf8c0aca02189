"""`learn list`, `next`, `check`, `hint`, `solution`, `grade`: the course's exercises.

Tests: tests/cli/test_learn.py.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Annotated

from tyro.conf import Positional

from llm_scratch.cli.flags import Command, Flag, ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, print_line, print_note, table
from llm_scratch.errors import DATA, UserError
from llm_scratch.formatting import sanitize, shell_command
from llm_scratch.learn.exercise import KINDS, Exercise, Verdict
from llm_scratch.learn.handout import is_pupils_copy
from llm_scratch.learn.progress import DEFAULT_FOLDER, Progress
from llm_scratch.learn.registry import EXERCISES, find_exercise
from llm_scratch.learn.sealed import open_sealed

WATCH_SECONDS = 0.3
"""Seconds between two checks of a watched file."""


@dataclass(frozen=True, kw_only=True)
class _InFolder:
    """Flags of every `learn` command."""

    folder: Annotated[str, option("FOLDER")] = ""
    """your answers and progress (default: exercises/)"""

    @property
    def progress(self) -> Progress:
        """The learner's folder."""
        return Progress(Path(self.folder or DEFAULT_FOLDER))

    def command(self, *words: str) -> str:
        """A `learn` command line for the same folder."""
        return shell_command("learn", *words, *(["--folder", self.folder] if self.folder else []))

    def check_command(self, exercise: Exercise) -> str:
        """The command line that checks an exercise; the quotes keep a shape from the shell."""
        answer = "" if exercise.function else ' "ANSWER"'
        return f"{self.command('check', exercise.id)}{answer}"


@dataclass(frozen=True, kw_only=True)
class _OneExercise(_InFolder):
    """Arguments of every command about one exercise."""

    exercise: Positional[Annotated[str, option("ID")]] = ""
    """exercise, such as 0.3 (default: the first that is not solved)"""

    def chosen(self, progress: Progress) -> Exercise:
        """The exercise of ID, or the first that is not solved."""
        if self.exercise:
            return find_exercise(self.exercise)
        unsolved = progress.next_exercise()
        if unsolved is None:
            raise UserError("all exercises are solved; name one to see it again")
        return unsolved


@dataclass(frozen=True)
class ListExercises(_InFolder, ReportCommand):
    """List the exercises, and which of them are solved.

    examples:
      llm-scratch learn list
      llm-scratch learn list --json
    """

    def run(self) -> None:
        """Print the table."""
        progress = self.progress
        rows = [(exercise, progress.record(exercise)) for exercise in EXERCISES.values()]
        if self.json:
            fields = [
                {
                    "id": e.id,
                    "title": e.title,
                    "kind": e.kind,
                    "solved": r.solved,
                    "attempts": r.attempts,
                    "hints": r.hints,
                }
                for e, r in rows
            ]
            print_json({"folder": progress.folder, "exercises": fields})
            return
        grid = table("", "exercise", "kind", "state", left=4)
        for exercise, record in rows:
            state = (
                "solved" if record.solved else f"{record.attempts} wrong" if record.attempts else ""
            )
            grid.add_row(exercise.id, exercise.title, exercise.kind, state)
        console().print(grid)
        solved = sum(record.solved for _, record in rows)
        if not self.quiet:
            console().print(
                f"\n{solved} of {len(rows)} solved. Continue: {self.command('next')}",
                soft_wrap=True,
            )


@dataclass(frozen=True)
class NextExercise(_OneExercise, Command):
    """Show an exercise, and write the starting file if the answer is code.

    examples:
      llm-scratch learn next
      llm-scratch learn next 2.5
    """

    def run(self) -> None:
        """Print the question and how to answer."""
        progress = self.progress
        exercise = self.chosen(progress)
        kind = f"{exercise.kind}: {KINDS[exercise.kind]}"
        print_line(f"Exercise {exercise.id}: {exercise.title} ({kind})\n")
        print_line(exercise.text(progress.question_seed(exercise)))
        if exercise.function:
            print_line(f"\nWrite your code in {progress.begin(exercise)}")
        progress.mark_shown(exercise)
        if not self.quiet:
            print_line(f"\ncheck:  {self.check_command(exercise)}")
            if exercise.function:
                print_line(f"        {self.check_command(exercise)} --watch  (at each save)")
            print_line(f"hint:   {self.command('hint', exercise.id)}")


@dataclass(frozen=True)
class CheckAnswer(_OneExercise, ReportCommand):
    """Check an answer: the exercise's file, or ANSWER for an exercise without code.

    examples:
      llm-scratch learn check 0.3
      llm-scratch learn check 0.3 --watch
      llm-scratch learn check 0.1 "(4, 7)"
    """

    answer: Positional[Annotated[str, option("ANSWER")]] = ""
    """a number, a shape, a list or a letter"""
    watch: Flag = False
    """check the file again whenever it is saved, until it is right"""

    def run(self) -> None:
        """Print the verdict."""
        progress = self.progress
        exercise = self.chosen(progress)
        self._validate(progress, exercise)
        if self.watch:
            self._watch(progress, exercise)
        elif exercise.function:
            self._report(progress, exercise, progress.grade_file(exercise))
        else:
            verdict = progress.grade(exercise, parse_answer(self.answer))
            self._report(progress, exercise, verdict)

    def _validate(self, progress: Progress, exercise: Exercise) -> None:
        """Raise an error for arguments that do not fit the exercise."""
        problem = ""
        if exercise.function and self.answer:
            problem = "its answer is code in a file; leave ANSWER out"
        elif not exercise.function and self.watch:
            problem = f"it has no file to watch; write {self.check_command(exercise)}"
        elif not exercise.function and not self.answer:
            problem = f"ANSWER is missing; write {self.check_command(exercise)}"
        elif not exercise.function and not progress.record(exercise).shown:
            problem = f"its numbers are not drawn yet; run {self.command('next', exercise.id)}"
        if problem:
            raise UserError(f"exercise {exercise.id}: {problem}")

    def _watch(self, progress: Progress, exercise: Exercise) -> None:
        path, seen = progress.begin(exercise), 0
        print_note(f"Checking {path} whenever it is saved; Ctrl-C ends.")
        while True:
            # an editor may save by renaming
            changed = path.stat().st_mtime_ns if path.is_file() else seen
            if changed != seen:
                if seen and not self.json:
                    print()  # sets the verdicts apart
                seen, verdict = changed, progress.grade_file(exercise)
                self._report(progress, exercise, verdict)
                if verdict.right:
                    return
            sleep(WATCH_SECONDS)

    def _report(self, progress: Progress, exercise: Exercise, verdict: Verdict) -> None:
        if self.json:
            print_json(
                {
                    "id": exercise.id,
                    "right": verdict.right,
                    "answered": verdict.answered,
                    "message": verdict.message,
                }
            )
            return
        print_line(f"exercise {exercise.id}: {verdict}")
        if self.quiet or not verdict.answered:
            return
        if not verdict.right:
            if not exercise.function:
                print_line(f"again, with other numbers:  {self.command('next', exercise.id)}")
            if not self.watch:
                print_line(f"hint:   {self.command('hint', exercise.id)}")
        elif progress.next_exercise():
            print_line(f"next:   {self.command('next')}")


def parse_answer(text: str) -> object:
    """An answer as it is typed: a Python value if it is one, else text."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError):  # TypeError: {[1]: 2}
        return text.strip()


@dataclass(frozen=True)
class ShowHint(_OneExercise, Command):
    """Show the next hint; there are three for each exercise.

    examples:
      llm-scratch learn hint
      llm-scratch learn hint 0.3
    """

    def run(self) -> None:
        """Print the hints that are open, and one more."""
        progress = self.progress
        exercise = self.chosen(progress)
        record = progress.record(exercise)
        record.hints = min(record.hints + 1, len(exercise.hints))
        progress.save()
        for number, text in enumerate(exercise.hints[: record.hints], 1):
            print_line(f"hint {number} of {len(exercise.hints)}: {text}")


@dataclass(frozen=True)
class ShowSolution(_OneExercise, Command):
    """Open the sealed solution of an exercise.

    examples:
      llm-scratch learn solution 0.3
      llm-scratch learn solution 1.5
    """

    def run(self) -> None:
        """Print its source."""
        if not self.exercise:
            raise UserError("ID is missing; name the exercise whose solution you want to see")
        exercise = find_exercise(self.exercise)
        if is_pupils_copy(self.progress.folder):
            raise UserError(
                f"{self.progress.folder}: a pupil's copy has no solutions; ask your teacher, or"
                f" open a hint: {self.command('hint', exercise.id)}"
            )
        solution = open_sealed(exercise.id).solution
        print(solution.replace("def solve(", f"def {exercise.function or 'answer'}("))


@dataclass(frozen=True)
class GradeClass(ReportCommand):
    """Grade a class at once: FOLDER has a folder of answers for each learner.

    Code is run and graded again; for other answers, the recorded grade counts.

    examples:
      llm-scratch learn grade class-of-may
      llm-scratch learn grade class-of-may --json
    """

    folder: Positional[Annotated[str, option("FOLDER")]]
    """folder of the learners' folders"""

    def run(self) -> None:
        """Print the table."""
        root = Path(self.folder)
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; check the path", DATA)
        learners: dict[str, list[str]] = {}
        for path in sorted(root.iterdir()):
            if path.is_dir():
                learners[path.name] = _solved_or_none(path)
        if self.json:
            rows = [
                {"name": name, "solved": solved, "open": [e for e in EXERCISES if e not in solved]}
                for name, solved in learners.items()
            ]
            print_json({"folder": root, "learners": rows})
            return
        if not learners:
            print(f"{root}: no folder of answers in it")
            return
        lessons = sorted({name.split(".")[0] for name in EXERCISES})
        grid = table("learner", *(f"L{lesson}" for lesson in lessons), "solved")
        for name, solved in learners.items():
            counts = [str(sum(e.startswith(f"{lesson}.") for e in solved)) for lesson in lessons]
            grid.add_row(sanitize(name), *counts, f"{len(solved)} of {len(EXERCISES)}")
        console().print(grid)


def _solved_or_none(folder: Path) -> list[str]:
    """The exercises that a learner's folder solves; none, with a note, if it is damaged."""
    try:
        return solved_exercises(folder)
    except UserError as e:
        print_note(str(e))
        return []


def solved_exercises(folder: Path) -> list[str]:
    """The exercises that a learner's folder solves."""
    progress = Progress(folder)
    return [name for name, exercise in EXERCISES.items() if _is_solved(progress, exercise)]


def _is_solved(progress: Progress, exercise: Exercise) -> bool:
    if not exercise.function:
        return progress.record(exercise).solved
    return progress.file(exercise).is_file() and progress.verdict_of_file(exercise).right
