"""`compare`: compare settings over paired seeds.

Tests: tests/cli/test_compare.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.experiment_flags import RunsCommand
from llm_scratch.cli.flags import Flag, option
from llm_scratch.errors import UserError

if TYPE_CHECKING:
    from llm_scratch.experiments.experiment import Experiment


@dataclass(frozen=True)
class Compare(RunsCommand):
    """Train every ARM with the same seeds, and test its difference from the first ARM.

    An ARM is settings in one quoted word, or base for no change.

    A single ARM is compared with base. The same command resumes after a stop.

    examples:
      llm-scratch compare quickstart "train.lr=0.01" "train.lr=0.02" --seeds 5
      llm-scratch compare quickstart base "train.lr=0.01 model.init=gpt2" --plan
      llm-scratch compare quickstart "train.lr=0.01 model.init=gpt2" --remove-each
    """

    base: Positional[Annotated[str, arg(metavar="PRESET|RUN")]]
    """settings that the arms change: a preset or a run directory"""
    arms: Positional[Annotated[tuple[str, ...], option("ARM")]] = ()
    """settings of each arm, NAME=VALUE; the first arm is the reference"""
    seeds: int = 5
    """number of seeds; every arm is trained once with each"""
    budget: Annotated[str, option("UNIT[=AMOUNT]")] = "tokens"
    """the same for every run:
    tokens, flops or seconds (default: tokens of the reference); none: each arm's own steps
    """
    metric: str = "bits_per_byte"
    """bits_per_byte, skill:NAME, seconds_to_loss:LOSS, or your own (--import)"""
    smallest_effect: Annotated[float | None, option("DIFFERENCE")] = None
    """smallest difference that matters (default: 0.005 bits per byte, 0.02 of a skill)"""
    stop_early: Flag = False
    """end once every comparison has a verdict; the error rate stays the same"""
    remove_each: Flag = False
    """ARM is a recipe: compare it with the recipe less one setting, for each setting"""
    plan: Flag = False
    """print runs, time, memory and the smallest detectable difference, and exit"""
    pilot: Flag = False
    """with --plan: train the first two seeds to measure the noise; the experiment uses them too"""
    noise_from: Annotated[str, option("FOLDER")] = ""
    """with --plan: take the noise from an earlier experiment"""
    out: Annotated[str, option("FOLDER")] = ""
    """the experiment's folder (default: one in runs/, named after its content)"""

    def run(self) -> None:
        """Run the experiment, or plan it."""
        from llm_scratch.cli.experiment_output import plan_and_print, run_and_print

        experiment = self._experiment()
        if self.plan:
            plan_and_print(
                experiment, self.out, self.device, self.pilot, self.noise_from, self.json
            )
            return
        if self.pilot or self.noise_from:
            raise UserError(
                "--pilot and --noise-from have no effect without --plan;"
                " add --plan, or leave them out"
            )
        run_and_print(experiment, self.out, self.device, self.json, self.cluster())

    def _experiment(self) -> Experiment:
        """The experiment that the words describe."""
        from llm_scratch.experiments.experiment import compare_settings, parse_budget, remove_each

        if not self.arms:
            raise UserError("ARM is missing; give settings such as train.lr=0.01")
        unit, equals, amount = self.budget.partition("=")
        options = {
            "budget": parse_budget({unit: amount} if equals else unit),
            "metric": self.metric,
            "smallest_effect": self.smallest_effect,
            "stop_early": self.stop_early,
        }
        if not self.remove_each:
            return compare_settings(self.base, self.arms, self.seeds, **options)
        if len(self.arms) > 1:
            raise UserError(
                f"--remove-each: {len(self.arms)} recipes;"
                " put all settings of one recipe into one word, in quotes"
            )
        return remove_each(self.base, self.arms[0], self.seeds, **options)
