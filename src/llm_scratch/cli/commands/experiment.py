"""`experiment run`, `plan`, `report`, `scaling`, `transfer`, and the budget game.

Tests: tests/cli/test_compare.py, tests/cli/test_scaling.py, tests/cli/test_transfer.py,
tests/cli/test_game.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.experiment_flags import RunsCommand
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.errors import UserError


@dataclass(frozen=True)
class RunExperiment(RunsCommand):
    """Run the experiment in FILE, or the rest of it, and print the verdicts.

    docs/experiments.md describes the file.

    examples:
      llm-scratch experiment run experiments/small-changes.yaml
      llm-scratch experiment run experiments/small-changes.yaml --json
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, arms and seeds"""
    out: Annotated[str, option("FOLDER")] = ""
    """the experiment's folder (default: runs/experiment-NAME)"""

    def run(self) -> None:
        """Run the experiment and print the verdicts."""
        from llm_scratch.cli.experiment_output import run_and_print
        from llm_scratch.experiments.experiment import read_experiment

        run_and_print(read_experiment(self.file), self.out, self.device, self.json, self.cluster())


@dataclass(frozen=True)
class PlanExperiment(ReportCommand):
    """Predict time, memory and the smallest detectable difference of an experiment.

    examples:
      llm-scratch experiment plan experiments/small-changes.yaml
      llm-scratch experiment plan experiments/small-changes.yaml --pilot
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, arms and seeds"""
    pilot: Flag = False
    """train the first two seeds to measure the noise; the experiment uses them too"""
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

        plan_and_print(
            read_experiment(self.file),
            self.out,
            self.device,
            self.pilot,
            self.noise_from,
            self.json,
        )


@dataclass(frozen=True)
class ReportExperiment(ReportCommand):
    """Write the report of the experiment in FOLDER again, as HTML and Markdown.

    examples:
      llm-scratch experiment report runs/experiment-small-changes
      llm-scratch experiment report runs/experiment-ideas --metric skill:count
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """an experiment's folder"""
    metric: Annotated[str, option("NAME")] = ""
    """measure the finished runs again by another metric, such as skill:count"""

    def run(self) -> None:
        """Write the report and print the verdicts."""
        from llm_scratch.cli.experiment_output import report_and_print

        report_and_print(Path(self.folder), self.json, self.metric)


@dataclass(frozen=True)
class FitScaling(RunsCommand):
    """Fit a scaling law to the sizes and budgets in FILE; predict a larger run.

    The prediction is written before that run is trained.

    examples:
      llm-scratch experiment scaling experiments/sizes.yaml
      llm-scratch experiment scaling experiments/sizes.yaml --json
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, sizes and flops"""
    out: Annotated[str, option("FOLDER")] = ""
    """the folder of the runs (default: runs/scaling-NAME)"""

    def run(self) -> None:
        """Run the grid, and print the law and the prediction."""
        from llm_scratch.cli.scaling_output import run_and_print
        from llm_scratch.experiments.scaling_runner import read_scaling

        run_and_print(read_scaling(self.file), self.out, self.device, self.json, self.cluster())


@dataclass(frozen=True)
class FindTransfer(RunsCommand):
    """Find the best learning rate of every width in FILE, and how it changes.

    Trains each arm at each width with each rate and seed.

    examples:
      llm-scratch experiment transfer experiments/transfer.yaml
      llm-scratch experiment transfer experiments/transfer.yaml --json
    """

    file: Positional[Annotated[str, arg(metavar="FILE")]]
    """a YAML file with base, widths, rates and arms"""
    out: Annotated[str, option("FOLDER")] = ""
    """the folder of the runs (default: runs/transfer-NAME)"""

    def run(self) -> None:
        """Run what is left, write the report, and print the best rates."""
        from llm_scratch.cli.transfer_output import run_and_print
        from llm_scratch.experiments.transfer_runner import read_transfer

        run_and_print(read_transfer(self.file), self.out, self.device, self.json, self.cluster())


@dataclass(frozen=True)
class PlayGame(ReportCommand):
    """Spend a budget on small runs, then predict the loss of a larger one.

    Without --tokens or --predict: print the rules, your runs, and the budget left.

    examples:
      llm-scratch experiment game --width 32 --tokens 20000
      llm-scratch experiment game --predict 0.95 --best-width 96
    """

    width: Annotated[int | None, option("N")] = None
    """width of a run to buy, with --tokens"""
    tokens: Annotated[int | None, option("N")] = None
    """tokens of that run"""
    predict: Annotated[float | None, option("LOSS")] = None
    """your prediction for the larger run in bits per byte; ends the game"""
    best_width: Annotated[int | None, option("N")] = None
    """with --predict: the width that you think is better for the same FLOPs"""
    base: Annotated[str, option("PRESET")] = "quickstart"
    """the preset or run directory to play with (default: quickstart)"""
    out: Annotated[str, option("FOLDER")] = ""
    """the folder of the game, kept between moves (default: runs/budget-game)"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Make a move, and print the state of the game."""
        from llm_scratch.cli.game_output import play_and_print

        run = guess = None
        if self.width is not None and self.tokens is not None:
            run = self.width, self.tokens
        elif self.width is not None or self.tokens is not None:
            raise UserError("game: a run needs --width and --tokens; give both")
        if self.predict is not None:
            guess = self.predict, self.best_width
        elif self.best_width is not None:
            raise UserError("--best-width: has no effect without --predict; give both")
        if run is not None and guess is not None:
            raise UserError("game: --tokens and --predict are two moves; give one of them")
        play_and_print(self.base, self.out, self.device, self.json, run, guess)
