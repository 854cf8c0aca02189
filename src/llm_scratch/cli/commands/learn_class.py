"""`learn handout` and `learn key`: a class's copies of the exercises, and the key to one.

Tests: tests/cli/test_learn_class.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from llm_scratch.cli.flags import Command, ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.errors import UserError
from llm_scratch.formatting import shell_command
from llm_scratch.learn.handout import answer_key, check_unused, write_pupils_copy


@dataclass(frozen=True)
class WriteHandouts(ReportCommand):
    """Write a pupil's copy of the exercises for each NAME, with other numbers.

    A copy has no solutions; its rules make a coding agent a tutor.

    examples:
      llm-scratch learn handout class-of-may anna
      llm-scratch learn handout class-of-may anna ben chris
    """

    folder: Positional[Annotated[str, option("FOLDER")]]
    """folder of the class; each copy is a folder in it"""
    names: Positional[Annotated[tuple[str, ...], option("NAME")]] = ()
    """the pupils"""

    def run(self) -> None:
        """Write the folders, and print them."""
        root = Path(self.folder)
        if not self.names:
            raise UserError("NAME is missing; name at least one pupil")
        for name in self.names:
            if not name or Path(name).name != name or name in (".", ".."):
                raise UserError(f"NAME {name!r}: not the name of a folder; leave out the path")
        copies = [root / name for name in dict.fromkeys(self.names)]
        for copy in copies:  # all before the first is written: the command can be repeated
            check_unused(copy)
        for copy in copies:
            write_pupils_copy(copy)
        if self.json:
            print_json({"folder": root, "copies": copies})
            return
        for copy in copies:
            print(copy)
        if not self.quiet:
            print(f"key:    {shell_command('learn', 'key', copies[0])}")
            print(f"grade:  {shell_command('learn', 'grade', root)}")


@dataclass(frozen=True)
class PrintKey(Command):
    """Print the key to a learner's folder, as Markdown.

    It has the answers, the solutions and the common mistakes.

    examples:
      llm-scratch learn key
      llm-scratch learn key class-of-may/anna > key-anna.md
    """

    folder: Positional[Annotated[str, option("FOLDER")]] = "exercises"
    """a learner's folder"""

    def run(self) -> None:
        """Print Markdown."""
        print(answer_key(Path(self.folder)), end="")
