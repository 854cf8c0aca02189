"""`train`: train a model from a preset, a settings file and flags, or resume a run.

Tests: tests/cli/test_train.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from llm_scratch.cli.flags import Command, Flag, Hidden, option
from llm_scratch.config import (
    DataConfig,
    GPTConfig,
    ModelConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
    dump_config,
    load_config,
)
from llm_scratch.errors import USAGE, UserError
from llm_scratch.formatting import shell_command
from llm_scratch.presets import OWN_TEXT, PRESETS, preset

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.cli.own_parts import OwnParts
    from llm_scratch.cli.own_text import OwnText
    from llm_scratch.planning.choice import Choice

OUTPUT_LOST = (
    "llm-scratch: standard output cannot be written; the run continues, its log.txt has every line"
)


@dataclass(frozen=True)
class Train(Command):
    """Train a model with the settings of PRESET; a file and flags override them.

    `train text PATH` chooses all settings for your own text.

    Ctrl-C saves a checkpoint; the same command resumes, also after a crash.

    examples:
      llm-scratch train quickstart
      llm-scratch train text books/ --minutes 5
      llm-scratch train shakespeare --out runs/bard --train.steps 500
    """

    preset: Positional[
        Annotated[str, option("PRESET", help=f"{', '.join(PRESETS)}; or text, for your own text")]
    ] = ""
    paths: Positional[Annotated[tuple[str, ...], option("PATH")]] = ()
    """for text: files, folders or patterns of UTF-8 text, or of .jsonl with a "text" field"""
    minutes: Annotated[float | None, option("MINUTES")] = None
    """for text: total time (default: 5)"""
    config: Annotated[str, option("FILE")] = ""
    """a YAML file of settings that override the preset; `llm-scratch config PRESET` prints one"""
    from_: Annotated[str, option("MODEL", "from")] = ""
    """initialize from a model: gpt2, hf:org/name,
    a folder or a run; this sets weights, shape and tokenizer
    """
    out: Annotated[str, option("FOLDER")] = ""
    """the run directory
    (default: the unfinished run with these settings in runs/, else runs/DATE-PRESET)
    """
    resume: Annotated[str, option("auto|PATH")] = "auto"
    """auto: resume the run in --out if its settings are the same;
    a run: resume it, without PRESET, also with more --train.steps;
    a checkpoint: continue from it in a new --out
    """
    parts: Annotated[str, option("FILE")] = ""
    """train with your own parts, such as LayerNorm or muon, if each equals the package's;
    `llm-scratch learn template` prints a template (docs/course_own_parts.md)
    """
    allow_different_parts: Flag = False
    """train with parts that differ from the package's"""
    fresh: Flag = False
    """start a new run; an existing run in --out is an error without --force"""
    force: Flag = False
    """with --fresh: remove the existing run in --out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    ignore_memory: Flag = False
    """start even if the memory estimate exceeds the free memory"""
    print_config: Flag = False
    """print all settings of the run as YAML and exit"""
    model: ModelConfig = field(default_factory=GPTConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    fixed: Hidden[tuple[str, ...]] = ()

    @classmethod
    def defaults(
        cls, words: Sequence[str], set_flags: Mapping[str, str], help_requested: bool
    ) -> Train:
        """The settings before flags: the preset's or the resumed run's, overridden by the file."""
        from llm_scratch.cli.init_from import (
            config_from_model,
            run_directory_of,
            with_architecture,
            with_length,
            with_tokenizer,
        )

        resumed = set_flags.get("--resume", "auto")
        is_resume = not words and "--config" not in set_flags and resumed != "auto"
        if not words and "--config" not in set_flags and not is_resume and not help_requested:
            presets = f"{', '.join(PRESETS)}, or text PATH for your own text"
            raise UserError(
                f"PRESET is missing; known: {presets}; `llm-scratch config` describes them", USAGE
            )
        chosen = words[:1] == [OWN_TEXT] and not help_requested
        if chosen:
            from llm_scratch.cli import own_text

            base = own_text.base_config(words[1:], set_flags.get("--data.source", ""))
        elif is_resume:
            base = load_config(run_directory_of(Path(resumed)) / "config.yaml")
        else:
            base = preset(words[0]) if words and words[0] != OWN_TEXT else RunConfig()
        if set_flags.get("--config"):
            base = load_config(set_flags["--config"], base)
        if base.parts and "--parts" not in set_flags:
            name = base.parts.rpartition(" ")[0]
            raise UserError(f"the run trains with parts of {name}; add --parts {name}")
        if set_flags.get("--from"):
            base = config_from_model(set_flags["--from"], base, set_flags)
        base = with_tokenizer(with_architecture(base, set_flags), set_flags)
        base = base if is_resume else with_length(base, set_flags)
        fixed = (
            own_text.fixed_settings(set_flags, set_flags.get("--config", ""), base)
            if chosen
            else ()
        )
        return cls(
            from_=base.init_from,
            model=base.model,
            data=base.data,
            train=base.train,
            system=base.system,
            fixed=fixed,
        )

    def run(self) -> None:
        """Train, then print a summary."""
        config = RunConfig(self.model, self.data, self.train, self.system, self.from_)
        self._check_flags()
        if not self.parts:
            self._train(config)
            return
        from llm_scratch.cli.own_parts import parts_of_run
        from llm_scratch.cli.terminal import console
        from llm_scratch.training.launcher import launched_rank

        screen = console(stderr=self.print_config)
        screen.quiet = self.quiet or not launched_rank().is_main
        with parts_of_run(self.parts, config, self.allow_different_parts, screen) as parts:
            self._train(parts.config, parts)

    def _train(self, config: RunConfig, parts: OwnParts | None = None) -> None:
        """Train with these settings, and with a learner's parts if there are some."""
        from llm_scratch.cli import own_text
        from llm_scratch.cli.optional_step import optional_step
        from llm_scratch.cli.own_parts import show_curves
        from llm_scratch.cli.preparation import Preparation
        from llm_scratch.cli.run_summary import print_summary
        from llm_scratch.cli.terminal import console, keeps_lines
        from llm_scratch.training.launcher import launched_rank

        own = (
            own_text.own_text(config, self.fixed, self.minutes) if self.preset == OWN_TEXT else None
        )
        choice = own.recover(self.out, self.resume, self.fresh) if own else None
        config = choice.config if choice else config
        if self.print_config:
            self._print_config(config, own, choice)
            return
        screen, launch = console(lenient=OUTPUT_LOST), launched_rank()
        first = launch.is_main
        screen.quiet = not first or self.quiet
        if notice := launch.notice:
            screen.print(notice, soft_wrap=keeps_lines(screen))
        folder = self._folder(config, screen) if first else Path()
        from llm_scratch.cli.progress import ProgressDisplay
        from llm_scratch.hardware.allocator import keep_freed_memory
        from llm_scratch.hardware.device import choose_device
        from llm_scratch.reports.plot import LossPlot
        from llm_scratch.training.fault_injection import inject_requested
        from llm_scratch.training.loop import train

        keep_freed_memory()
        device_choice = choose_device(self.device)
        device = device_choice.name
        screen.print(f"device: {device_choice}", soft_wrap=keeps_lines(screen))
        preparation = Preparation(
            config, device, screen, own, choice, self.ignore_memory, self.debug
        )
        with ProgressDisplay(screen) as display:
            callbacks = [preparation, display, LossPlot(display.warn), *([parts] if parts else [])]
            run = train(
                config,
                folder,
                device=device,
                prepare=preparation,
                callbacks=callbacks,
                inject_fault=inject_requested,
            )
        if own and preparation.choice:
            with optional_step(
                "no continuations shown", shell_command("generate", folder), screen, self.debug
            ):
                own_text.show_continuations(run, preparation.choice, screen)
        if first:
            began = own.began if own else preparation.ready_at
            print_summary(run, screen, time.perf_counter() - began, self.debug)
        if first and parts:
            show_curves(parts, run.folder, screen, self.debug)
        if own:
            own_text.show_advice(run, own.minutes, screen)

    def _check_flags(self) -> None:
        """Check for arguments that exclude each other or would be ignored."""
        if self.preset != OWN_TEXT and (self.paths or self.minutes is not None):
            if self.paths:
                problem = f"unexpected {' '.join(self.paths)}"
            else:
                problem = f"--minutes {self.minutes:g} would be ignored"
            raise UserError(
                f"{problem}; paths and --minutes belong to `llm-scratch train text PATH`", USAGE
            )
        if self.parts and self.preset == OWN_TEXT:
            raise UserError(
                "--parts: it has no effect on `train text`; use a preset, such as quickstart", USAGE
            )
        if self.allow_different_parts and not self.parts:
            raise UserError("--allow-different-parts has no effect without --parts FILE", USAGE)
        if self.force and not self.fresh:
            raise UserError(
                "--force has no effect without --fresh;"
                " --fresh --force removes the existing run in --out",
                USAGE,
            )
        if self.resume != "auto" and self.fresh:
            raise UserError("--resume and --fresh exclude each other; leave one out", USAGE)

    def _print_config(self, config: RunConfig, own: OwnText | None, choice: Choice | None) -> None:
        """Print the settings as YAML; for `train text`, with the reasons as comments.

        Raises:
            UserError: the settings are invalid, as in training.
        """
        from llm_scratch.cli import own_text
        from llm_scratch.cli.terminal import console
        from llm_scratch.hardware.device import choose_device
        from llm_scratch.training.validate import validate

        validate(config)
        device = choose_device(self.device).name
        if own and not choice:
            choice, _, _ = own.choose(device, console(stderr=True))
        if choice:
            print(own_text.as_comments(choice.lines), end="")
        print(dump_config(choice.config if choice else config), end="")

    def _folder(self, config: RunConfig, screen: Console) -> Path:
        """The run directory, emptied by `--fresh --force` and checked to be writable."""
        from llm_scratch.cli.folders import check_can_write, choose_output_dir
        from llm_scratch.cli.init_from import fork_run, run_directory_of
        from llm_scratch.cli.output_dir import check_output_dir
        from llm_scratch.cli.own_text import run_name
        from llm_scratch.cli.terminal import keeps_lines
        from llm_scratch.training.lock import NAME, exclusive_writer

        if self.resume != "auto":
            check_output_dir(
                run_directory_of(Path(self.resume)), config, fresh=False, force=False, screen=screen
            )
            folder = fork_run(Path(self.resume), self.out)
            screen.print(f"run: resuming {self.resume} in {folder}", soft_wrap=keeps_lines(screen))
        elif not self.out:
            name = self.preset or Path(self.config).stem
            name = run_name(config.data.source) if name == OWN_TEXT else name
            folder, note = choose_output_dir(config, name, date.today().isoformat(), self.fresh)
            screen.print(f"run: {note}", soft_wrap=keeps_lines(screen))
        else:
            folder = Path(self.out)
            check_output_dir(folder, config, self.fresh, self.force, screen)
        if (folder / NAME).exists():
            with exclusive_writer(folder, screen.print):
                pass  # another process that trains here is an error before torch is imported
        check_can_write(folder)
        return folder
