"""Write the report about a run: one HTML page. Tests: tests/cli/test_report.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console


@dataclass(frozen=True)
class Report(ReportCommand):
    """Write one HTML page about RUN, to read, hand out or print.

    Loss, diagnosis, samples, skills, plan, settings, machine, the command.

    The page needs no network and no other file.

    examples:
      llm-scratch report quickstart
      llm-scratch report runs/bard --out bard.html
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, or a preset (its newest run)"""
    out: Annotated[str, option("FILE")] = ""
    """the page (default: report.html in the run directory)"""

    def run(self) -> None:
        """Write the page and print its path."""
        run = resolve_model_path(self.run_)
        out = Path(self.out) if self.out else run / "report.html"
        from llm_scratch.reports.contents import collect
        from llm_scratch.reports.page import write_report

        collect(run)  # without a run, that is the error, not the folder of the page
        check_can_write(out)
        page = write_report(run, out)
        if self.json:
            print_json({"run": run, "page": page})
            return
        console().print(str(page), soft_wrap=True)
