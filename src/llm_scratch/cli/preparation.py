"""What `train` does before the first step: read the text, plan the run, and report both.

Tests: tests/cli/test_train.py, tests/cli/test_own_text.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from llm_scratch.cli import own_text
from llm_scratch.cli.corpus import load_corpus, source_in_words
from llm_scratch.cli.init_from import load_initial_model
from llm_scratch.cli.optional_step import optional_step
from llm_scratch.cli.terminal import keeps_lines
from llm_scratch.config import RunConfig
from llm_scratch.formatting import format_count
from llm_scratch.training.callbacks import Callback, TrainState

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.data.corpus import Corpus
    from llm_scratch.planning.choice import Choice
    from llm_scratch.planning.plan import Plan
    from llm_scratch.training.run_data import PreparedRun


@dataclass
class Preparation(Callback):
    """Prepare settings, text and model of a run, when `training.loop.train` calls it.

    As a callback it saves the plan and the choice there.

    Attributes:
        own: the command `train text`; None for any other.
        choice: the settings that `train text` chose.
        plan: the prediction for the run, if one is made.
        ready_at: `time.perf_counter()` when everything was prepared.
    """

    config: RunConfig
    device: str
    screen: Console
    own: own_text.OwnText | None = None
    choice: Choice | None = None
    ignore_memory: bool = False
    debug: bool = False
    plan: Plan | None = None
    ready_at: float = 0.0

    def __call__(self, folder: Path) -> PreparedRun:
        """Read the text and load the initial model.

        Raises:
            UserError: no text, or another one than the run's; a run that does not fit into memory.
        """
        from llm_scratch.cli.commands.plan import check_fits, check_memory, warn_of_load

        check_memory(self.config, self.device, ignore=self.ignore_memory or self.own is not None)
        prepared = (
            self._choose(self.own, folder) if self.own and not self.choice else self._read(folder)
        )
        check_fits(self.plan, prepared.config, self.screen, self.ignore_memory)
        if self.choice:
            own_text.show_choice(self.choice.lines, self.screen)
            if self.plan is not None:
                warn_of_load(self.plan, self.screen)
        else:
            print_header(prepared.config, prepared.corpus, self.screen)
        self.ready_at = perf_counter()
        return prepared

    def _choose(self, own: own_text.OwnText, folder: Path) -> PreparedRun:
        """Choose the settings of a new run of `train text`."""
        from llm_scratch.training.run_data import PreparedRun

        self.choice, self.plan, corpus = own.choose(self.device, self.screen)
        config = self.choice.config
        return PreparedRun(
            config, corpus, load_initial_model(config, folder)[0] if config.init_from else None
        )

    def _read(self, folder: Path) -> PreparedRun:
        """Read the text of a run whose settings are known, and plan it."""
        from llm_scratch.cli.commands.plan import print_plan
        from llm_scratch.training.run_data import PreparedRun, text_check, tokenizer_of_run

        config = self.config
        documents = own_text.read_again(self.choice, folder) if self.choice else None
        model, tokenizer = (
            load_initial_model(config, folder)
            if config.init_from
            else (None, tokenizer_of_run(config, folder))
        )
        config, corpus = load_corpus(
            config, self.screen, tokenizer, documents, text_check(config, folder)
        )
        if not self.own:
            with optional_step("no plan made", "", self.screen, self.debug):
                self.plan = print_plan(config, folder, self.device, corpus, self.screen)
        return PreparedRun(config, corpus, model)

    def started(self, state: TrainState, resumed: bool) -> None:
        """Save the plan and the choice in the run directory."""
        if self.plan is not None:
            self.plan.save(state.folder)
        if self.choice is not None:
            self.choice.save(state.folder)


def print_header(config: RunConfig, corpus: Corpus, screen: Console) -> None:
    """Print the text and the model of a run."""
    from llm_scratch.training.run_data import text_loaders

    left_out = text_loaders(config, corpus)[0].left_out
    screen.print(
        f"text: {source_in_words(config.data.source)}, {format_count(len(corpus.train))} training"
        f" tokens, {format_count(len(corpus.val))} validation tokens, {corpus.bytes_per_token:.2f}"
        " bytes a"
        f" token{f'; each epoch leaves out {format_count(left_out)} tokens' * bool(left_out)}",
        soft_wrap=keeps_lines(screen),
    )
    origin = f", from {config.init_from}" if config.init_from else ""
    screen.print(
        f"model: {config.model.architecture},"
        f" {format_count(config.model.n_params)} parameters{origin}",
        soft_wrap=keeps_lines(screen),
    )
