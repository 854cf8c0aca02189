"""`experiment run`, `experiment plan`, `experiment report`: experiments from a YAML file.

Tests: tests/cli/test_experiment.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Flag, ReportCommand, option


@dataclass(frozen=True)
class RunExperiment(ReportCommand):
    """Run the experiment in FILE, or what is left of it, and say what is shown.

    docs/experiments.md describes the file.

    examples:
      llm-scratch experiment run experiments/init.yaml
      llm-scratch experiment run experiments/init.yaml --out runs/init --json
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, arms and seeds"""
    out: Annotated[str, option("FOLDER")] = ""
    """the experiment's folder (default: runs/experiment-NAME)"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Run the experiment and print the verdicts."""
        from llm_scratch.cli.experiment_output import run_and_print
        from llm_scratch.experiments.experiment import read_experiment

        run_and_print(read_experiment(self.file), self.out, self.device, self.json)


@dataclass(frozen=True)
class PlanExperiment(ReportCommand):
    """Predict time, memory and what the experiment in FILE can show.

    examples:
      llm-scratch experiment plan experiments/init.yaml
      llm-scratch experiment plan experiments/init.yaml --pilot
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, arms and seeds"""
    pilot: Flag = False
    """run two seeds first, which count, to measure the noise"""
    noise_from: Annotated[str, option("FOLDER")] = ""
    """take the noise from an earlier experiment"""
    out: Annotated[str, option("FOLDER")] = ""
    """the experiment's folder (default: runs/experiment-NAME)"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Print the plan."""
        from llm_scratch.cli.experiment_output import plan_and_print
        from llm_scratch.experiments.experiment import read_experiment

        plan_and_print(read_experiment(self.file), self.out, self.device, self.pilot, self.noise_from, self.json)


@dataclass(frozen=True)
class ReportExperiment(ReportCommand):
    """Write the report of the experiment in FOLDER again, as HTML and Markdown.

    examples:
      llm-scratch experiment report runs/experiment-init
      llm-scratch experiment report runs/experiment-init --json
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """an experiment's folder"""

    def run(self) -> None:
        """Write the report and print the verdicts."""
        from llm_scratch.cli.experiment_output import report_and_print

        report_and_print(Path(self.folder), self.json)
