"""The budget game: spend FLOPs on small runs, predict a larger one, then see it trained.

Every run is really trained. The larger run costs twice the whole budget, so its loss can only be
predicted. The score compares the learner's error with that of a scaling law fitted to the learner's
own runs, or of the lowest loss among them if they are too few for a law.
Tests: tests/experiments/test_game.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_scratch.config import RunConfig, load_config
from llm_scratch.errors import DATA, UserError
from llm_scratch.experiments.arms import base_config
from llm_scratch.experiments.experiment import Budget
from llm_scratch.experiments.grid import (
    claim,
    grid_config,
    n_parameters,
    n_positions,
    open_session,
    run_missing,
    with_seed,
)
from llm_scratch.experiments.results import FILE, Results, RunResult, read_results
from llm_scratch.experiments.run_folders import folder_name, settings_file
from llm_scratch.experiments.runner import ExperimentCallback, Job
from llm_scratch.experiments.scaling import fit_scaling_law
from llm_scratch.experiments.statistics import distributions
from llm_scratch.model.flops import flops_per_token
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.training.lock import exclusive_writer

GUESS_FILE = "guess.json"
TARGET, BEST = "target", "best"
"""Names of the larger run, and of the run with the learner's best width."""
SEED = 1
TARGET_STEPS = 100
BUDGET_SHARE = 0.5
"""The budget as a share of the FLOPs of the larger run."""


@dataclass(frozen=True)
class GameRun:
    """A run that was bought: its width, tokens of full rows, and what it cost and reached."""

    width: int
    positions: int
    parameters: int
    tokens: int
    flops: float
    loss: float | None


@dataclass(frozen=True)
class Guess:
    """What the learner predicts: the loss of the larger run, and perhaps a better width."""

    loss: float
    best_width: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The measured loss and the predictions.

    Attributes:
        guess: of the learner.
        measured: loss of the larger run.
        reference: prediction that the learner's is compared with.
        is_law: whether that is the fitted law's, or the lowest loss of the runs.
        best_width_loss: loss of the learner's width with the same FLOPs; None without one.
    """

    guess: Guess
    measured: float
    reference: float
    is_law: bool
    best_width_loss: float | None

    @property
    def score(self) -> int:
        """0 to 100: the reference's share of the two errors; 50 is as good as the reference."""
        mine, other = abs(self.guess.loss - self.measured), abs(self.reference - self.measured)
        return round(100 * other / (mine + other)) if mine + other else 50


class Game:
    """A game whose runs and guess are stored in a folder, to continue it later.

    Args:
        folder: of the game.
        base: a preset or a run directory, whose widths are played with.
        device: "cpu", "cuda" or "mps".
        callback: callbacks of the runs.
    Raises:
        UserError: scipy is missing; an unknown base; a folder with a game of another base.
    """

    def __init__(
        self,
        folder: Path,
        base: str = "quickstart",
        device: str = "cpu",
        callback: ExperimentCallback | None = None,
    ) -> None:
        distributions()
        self.folder = folder
        self.base = with_seed(base_config(base), SEED)
        self._session = open_session(folder, device, callback)
        batch = self.base.train.batch_size * self.base.model.context_length
        self.target = self._config(self.base.model["emb_dim"], TARGET_STEPS * batch)
        self.target_flops = flops(self.target)
        self.budget = BUDGET_SHARE * self.target_flops
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, {TARGET: self.target})

    def runs(self) -> list[GameRun]:
        """The runs that were bought, in order."""
        return [
            self._bought(result) for result in self._results() if result.arm not in (TARGET, BEST)
        ]

    def _bought(self, result: RunResult) -> GameRun:
        """A run with its price, from the settings that it was trained with."""
        config = load_config(settings_file(self.folder, result.arm))
        return GameRun(
            config.model["emb_dim"],
            n_positions(config),
            n_parameters(config),
            result.tokens,
            flops(config),
            result.value,
        )

    def left(self) -> float:
        """FLOPs of the budget that are left."""
        return self.budget - sum(run.flops for run in self.runs())

    def buy(self, width: int, tokens: int) -> GameRun:
        """Train a run and pay for it.

        Args:
            width: of the model.
            tokens: of full rows, rounded to whole steps.
        Raises:
            UserError: an invalid width, too few FLOPs left, or a game that is over.
        """
        if self.guess() is not None:
            raise UserError(f"{self.folder}: the game is over; start another with --out FOLDER")
        config = self._config(width, tokens)
        cost, name = flops(config), f"{width} {n_positions(config)}"
        if cost > self.left() and name not in [result.arm for result in self._results()]:
            raise UserError(
                f"width {width}, {n_positions(config):,} tokens: costs {cost:.3g} FLOPs, and"
                f" {self.left():.3g} are left; choose a smaller run, or predict"
            )
        return self._bought(self._train(name, config))

    def predict(self, guess: Guess) -> None:
        """Keep the guess, which ends the game; `outcome` reveals the truth.

        Raises:
            UserError: no run to predict from; an invalid width; another guess was made.
        """
        if self.guess() not in (None, guess):
            raise UserError(f"{self.folder}: the game is over; start another with --out FOLDER")
        if not any(run.loss is not None for run in self.runs()):
            raise UserError("prediction: there is no finished run yet; buy one first")
        if guess.best_width is not None:
            self._same_cost(guess.best_width)
        atomic_write(self.folder / GUESS_FILE, json.dumps(vars(guess)) + "\n")

    def guess(self) -> Guess | None:
        """The guess that was made."""
        path = self.folder / GUESS_FILE
        return Guess(**read_json(path, DATA)) if path.is_file() else None

    def outcome(self) -> Outcome | None:
        """The truth, for which the larger run is trained once; None before the guess.

        Raises:
            UserError: the run diverged.
        """
        guess = self.guess()
        if guess is None:
            return None
        runs = [run for run in self.runs() if run.loss is not None]
        law = self._law(runs)
        lowest = min(run.loss for run in runs if run.loss is not None)
        measured = self._loss(TARGET, self.target)
        best = guess.best_width
        return Outcome(
            guess,
            measured,
            lowest if law is None else law,
            law is not None,
            None if best is None else self._loss(BEST, self._same_cost(best)),
        )

    def _law(self, runs: list[GameRun]) -> float | None:
        """The loss of the larger run by a law fitted to the runs; None if they are too few."""
        columns = zip(*((run.parameters, run.tokens, run.loss) for run in runs), strict=True)
        parameters, tokens, losses = (np.array(column, dtype=float) for column in columns)
        filled = tokens.sum() / sum(run.positions for run in runs)
        try:
            fit = fit_scaling_law(parameters, tokens, losses, bootstraps=0)
        except UserError:
            return None
        return float(fit.law.loss(n_parameters(self.target), filled * n_positions(self.target)))

    def _config(self, width: int, tokens: float) -> RunConfig:
        """The settings of a run, checked against its text."""
        config = self.base.override([f"model.emb_dim={width}"])
        return grid_config(config, Budget("tokens", tokens), self.base, self._session.corpora)

    def _same_cost(self, width: int) -> RunConfig:
        """The settings of a run of this width that costs what the larger run costs."""
        config = self._config(width, 1)
        return self._config(width, n_positions(config) * self.target_flops / flops(config))

    def _loss(self, name: str, config: RunConfig) -> float:
        value = self._train(name, config).value
        if value is None:
            raise UserError(f"run {name}: diverged; start another game with --out FOLDER")
        return value

    def _train(self, name: str, config: RunConfig) -> RunResult:
        """The result of a run, which is trained unless it is done."""
        known = self._results()
        names = [result.arm for result in known if result.arm != name]
        with exclusive_writer(self.folder, lambda message: None):
            claim(self.folder, {name: config})
            results = Results(self.folder, [(each, SEED) for each in (*names, name)])
            self._session.callback.started(len(names) + 1, len(known))
            job = Job(name, SEED, config, self.folder / folder_name(name))
            (result,) = run_missing(self._session, results, [job])
        return result

    def _results(self) -> list[RunResult]:
        return read_results(self.folder) if (self.folder / FILE).is_file() else []


def flops(config: RunConfig) -> float:
    """What a run costs: FLOPs of all positions of its rows."""
    return float(n_positions(config) * flops_per_token(config.model))
