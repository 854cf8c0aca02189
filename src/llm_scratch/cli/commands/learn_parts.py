"""`learn template` and `learn parts`: begin a file of one's own parts, and check it.

Tests: tests/cli/test_own_parts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from llm_scratch.cli.flags import Command, ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.cli.own_parts import check_file, show_verdicts
from llm_scratch.cli.terminal import console
from llm_scratch.formatting import shell_command
from llm_scratch.presets import preset


@dataclass(frozen=True)
class PrintTemplate(Command):
    """Print a file with the signatures of the parts, to be filled in.

    For parts that you leave out, the package's are used; one is enough to start.

    examples:
      llm-scratch learn template > my_parts.py
      llm-scratch learn template LayerNorm GELU > my_parts.py
    """

    names: Positional[Annotated[tuple[str, ...], option("PART")]] = ()
    """the parts (default: all)"""

    def run(self) -> None:
        """Print Python source."""
        from llm_scratch.own_parts.parts import template

        print(template(self.names), end="")


@dataclass(frozen=True)
class CheckParts(ReportCommand):
    """Compare outputs and gradients of your own parts with the package's.

    The inputs are random. A part that differs is diagnosed where possible.

    To train with the parts, run `llm-scratch train quickstart --parts FILE`.

    examples:
      llm-scratch learn parts my_parts.py
      llm-scratch learn parts my_parts.py --json
    """

    file: Positional[Annotated[str, option("FILE")]]
    """a Python file that defines parts; `llm-scratch learn template` prints one"""
    preset: Annotated[str, option("PRESET")] = "quickstart"
    """the preset that the parts will be trained with (default: quickstart)"""

    def run(self) -> None:
        """Print a verdict for each part."""
        config = preset(self.preset)
        _, verdicts = check_file(self.file, config)
        if self.json:
            print_json({"file": self.file, "parts": verdicts})
            return
        screen = console()
        show_verdicts(self.file, verdicts, config, screen)
        if not self.quiet and any(verdict.state == "equal" for verdict in verdicts):
            command = shell_command("train", self.preset, "--parts", self.file)
            screen.print(f"train with them: {command}", soft_wrap=True)
