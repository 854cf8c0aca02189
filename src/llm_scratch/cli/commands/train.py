"""Train a model: preset, then file, then flags; go on where a run stopped; say where everything lies.

Proof: tests/cli/test_train.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional

from llm_scratch.cli import own_text
from llm_scratch.cli.commands.plot import draw
from llm_scratch.cli.corpus import load_corpus, source_in_words
from llm_scratch.cli.flags import Command, Flag, Hidden, option
from llm_scratch.cli.folders import check_can_write, choose_output_dir, load_run_info, with_order_of
from llm_scratch.cli.init_from import config_from_model, fork_run, load_initial_model, run_directory_of, with_tokenizer
from llm_scratch.cli.optional_step import optional_step
from llm_scratch.cli.run_text import sample_in_words
from llm_scratch.cli.terminal import console, keeps_lines
from llm_scratch.config import DataConfig, ModelConfig, RunConfig, SystemConfig, TrainConfig, dump_config, load_config
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.formatting import format_count, format_duration, shell_command
from llm_scratch.presets import PRESETS, preset
from llm_scratch.storage import files
from llm_scratch.training.launcher import launched_rank
from llm_scratch.training.lock import NAME, exclusive_writer
from llm_scratch.training.same_run import check_same_run

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus
    from llm_scratch.planning.choice import Choice
    from llm_scratch.training.trainer import Trainer


OUTPUT_LOST = "llm-scratch: standard output cannot be written; the run continues, its log.txt has every line"


@dataclass(frozen=True)
class Train(Command):
    """Train a model as PRESET says; a file and flags change single settings.

    `train text PATH` chooses all settings for a text of your own.

    Ctrl-C saves first, and the same command resumes, as it does after a crash.

    examples:
      llm-scratch train quickstart
      llm-scratch train text books/ --minutes 5
      llm-scratch train shakespeare --out runs/bard --train.steps 500
    """

    preset: Positional[Annotated[str, option("PRESET", help=f"{', '.join(PRESETS)}; or text, for your own text")]] = ""
    paths: Positional[Annotated[tuple[str, ...], option("PATH")]] = ()
    """after text: files, folders, patterns; UTF-8 text, or .jsonl with a "text" in each line"""
    minutes: Annotated[float | None, option("MINUTES")] = None
    """of text: the time for all of it (default: 5)"""
    config: Annotated[str, option("FILE")] = ""
    """a YAML file of settings, over the preset's (`llm-scratch config PRESET` prints one to begin with)"""
    from_: Annotated[str, option("MODEL", "from")] = ""
    """a model to go on from: gpt2, hf:org/name, a folder, a run; its weights, shape and tokenizer"""
    out: Annotated[str, option("FOLDER")] = ""
    """the run directory; runs/DATE-PRESET unless given, or the unfinished run of these settings there"""
    resume: Annotated[str, option("auto|PATH")] = "auto"
    """auto: resume the run in --out if it has these settings; or a run, which needs no PRESET and may get more --train.steps;
    or a checkpoint, from which a new --out continues"""
    fresh: Flag = False
    """start over; a run that is in --out stays, unless there is --force too"""
    force: Flag = False
    """with --fresh: remove the run that is in --out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    ignore_memory: Flag = False
    """start even if the run does not fit into memory by estimate"""
    print_config: Flag = False
    """print exactly what would run, as YAML, and stop"""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: SystemConfig = field(default_factory=SystemConfig)
    fixed: Hidden[tuple[str, ...]] = ()

    @classmethod
    def defaults(cls, words: Sequence[str], given: Mapping[str, str], asks: bool) -> Train:
        """What flags change: the preset's settings, with the file's over them."""
        resumed = given.get("--resume", "auto")
        is_resume = not words and "--config" not in given and resumed != "auto"
        if not words and "--config" not in given and not is_resume and not asks:
            presets = f"{', '.join(PRESETS)}, or text PATH for your own text"
            raise UserError(f"which preset? known: {presets}; `llm-scratch config` says what they do", USAGE)
        chosen = words[:1] == [own_text.PRESET] and not asks
        if chosen:
            base = own_text.base_config(words[1:], given.get("--data.source", ""))
        elif is_resume:
            base = load_config(run_directory_of(Path(resumed)) / "config.yaml")
        else:
            base = preset(words[0]) if words and words[0] != own_text.PRESET else RunConfig()
        if given.get("--config"):
            base = load_config(given["--config"], base)
        if given.get("--from"):
            base = config_from_model(given["--from"], base, given)
        base = with_tokenizer(base, given)
        fixed = own_text.fixed_settings(given, given.get("--config", ""), base.start) if chosen else ()
        return cls(from_=base.start, model=base.model, data=base.data, train=base.train, machine=base.machine, fixed=fixed)

    def run(self) -> None:
        """Train, then say how it went."""
        config = RunConfig(self.model, self.data, self.train, self.machine, self.from_)
        self._check_words()
        own = own_text.own_text(config, self.fixed, self.minutes) if self.preset == own_text.PRESET else None
        choice = own.recover(self.out, self.resume, self.fresh) if own else None
        config = choice.config if choice else config
        if self.print_config:
            self._print_config(config, own, choice)
            return
        screen, here = console(lenient=OUTPUT_LOST), launched_rank()
        first = here.is_main
        screen.quiet = not first or self.quiet
        if notice := here.notice:
            screen.print(notice, soft_wrap=keeps_lines(screen))
        folder = self._folder(config, screen) if first else Path()
        from llm_scratch.cli.commands.plan import check_fits, check_memory, print_plan
        from llm_scratch.cli.device import resolve_device
        from llm_scratch.hardware.allocator import keep_freed_memory
        from llm_scratch.training.distributed import init_distributed
        from llm_scratch.training.loop import train
        from llm_scratch.training.run_text import text_check, tokenizer_of_run
        from llm_scratch.training.validate import validate

        validate(config, folder)
        keep_freed_memory()
        device, why = resolve_device(self.device)
        screen.print(f"device: {why}", soft_wrap=keeps_lines(screen))
        check_memory(config, device, ignore=self.ignore_memory or own is not None)
        with init_distributed(device) as team:
            folder = team.broadcast(folder)
            plan, model = None, None
            if own and not choice:
                choice, plan, corpus = own.choose(device, screen)
                config = choice.config
                model = load_initial_model(config, folder)[0] if config.start else None
            else:
                documents = own_text.read_again(choice, folder) if choice else None
                model, tokenizer = load_initial_model(config, folder) if config.start else (None, tokenizer_of_run(config, folder))
                config, corpus = load_corpus(config, screen, tokenizer, documents, text_check(config, folder))
                if first and not own:
                    with optional_step("no plan made", "", screen, self.debug):
                        plan = print_plan(config, folder, device, corpus, screen)
            check_fits(plan, config, screen, self.ignore_memory)
            if choice:
                own_text.show_choice(choice.lines, screen)
            else:
                _print_header(config, corpus, screen)
            began = time.perf_counter()
            with own_text.watch(screen, plan, choice) as watch:
                run = train(config, folder, device=device, watcher=watch, corpus=corpus, model=model)
        if own and choice:
            with optional_step("no continuations shown", shell_command("generate", folder), screen, self.debug):
                own_text.show_continuations(run, choice, screen)
        if first:
            _print_summary(run, screen, time.perf_counter() - (own.began if own else began), self.debug)
        if own:
            own_text.show_advice(run, own.minutes, screen)

    def _check_words(self) -> None:
        """Words and flags that exclude each other, or that would be ignored."""
        if self.preset != own_text.PRESET and (self.paths or self.minutes is not None):
            what = f"unexpected {' '.join(self.paths)}" if self.paths else f"--minutes {self.minutes:g} would be ignored"
            raise UserError(f"{what}; paths and --minutes belong to `llm-scratch train text PATH`", USAGE)
        if self.force and not self.fresh:
            raise UserError("--force alone does nothing; --fresh --force removes the run that is in --out", USAGE)
        if self.resume != "auto" and self.fresh:
            raise UserError("--resume goes on and --fresh starts over; give one of them", USAGE)

    def _print_config(self, config: RunConfig, own: own_text.OwnText | None, choice: Choice | None) -> None:
        """What would run, as YAML; of a text of one's own, the reasons as comments before it.

        Raises:
            UserError: what `train` would refuse, too.
        """
        from llm_scratch.cli.device import resolve_device
        from llm_scratch.training.validate import validate

        validate(config)
        device, _ = resolve_device(self.device)
        if own and not choice:
            choice, _, _ = own.choose(device, console(stderr=True))
        if choice:
            print(own_text.as_comments(choice.lines), end="")
        print(dump_config(choice.config if choice else config), end="")

    def _folder(self, config: RunConfig, screen: Console) -> Path:
        """The run directory; `--fresh --force` has emptied it, and it can be written."""
        if self.resume != "auto":
            _check_output_dir(run_directory_of(Path(self.resume)), config, fresh=False, force=False, screen=screen)
            folder = fork_run(Path(self.resume), self.out)
            screen.print(f"run: goes on from {self.resume} in {folder}", soft_wrap=keeps_lines(screen))
        elif not self.out:
            name = self.preset or Path(self.config).stem
            name = own_text.run_name(config.data.source) if name == own_text.PRESET else name
            folder, why = choose_output_dir(config, name, date.today().isoformat(), self.fresh)
            screen.print(f"run: {why}", soft_wrap=keeps_lines(screen))
        else:
            folder = Path(self.out)
            _check_output_dir(folder, config, self.fresh, self.force, screen)
        if (folder / NAME).exists():
            with exclusive_writer(folder, screen.print):
                pass  # somebody trains there, or nobody: known before torch is imported
        check_can_write(folder)
        return folder


def _print_header(config: RunConfig, corpus: Corpus, screen: Console) -> None:
    """What is learned from, and what learns."""
    from llm_scratch.planning.plan import loader_for

    left_out = loader_for(config, corpus).left_out
    screen.print(
        f"text: {source_in_words(config.data.source)}, {format_count(len(corpus.train))} tokens to learn from, "
        f"{format_count(len(corpus.val))} held out, "
        f"{corpus.bytes_per_token:.2f} bytes a token{f'; each epoch leaves out {format_count(left_out)} tokens' * bool(left_out)}",
        soft_wrap=keeps_lines(screen),
    )
    origin = f", from {config.start}" if config.start else ""
    screen.print(
        f"model: {config.model.architecture}, {format_count(config.model.n_params)} parameters{origin}", soft_wrap=keeps_lines(screen)
    )


def _check_output_dir(folder: Path, config: RunConfig, fresh: bool, force: bool, screen: Console) -> None:
    """See that `folder` is new, empty, or a run of the same settings; with `fresh` and `force`, remove a run that is there.

    Raises:
        UserError: it is something else, which stays as it is.
    """
    if not folder.exists():
        return
    if not fresh and (old := load_run_info(folder)) is not None:
        old.check_trainable()
    if not folder.is_dir():
        raise UserError(f"--out {folder} is a file; expected a folder, or a name that is free")
    is_run = (folder / "config.yaml").is_file() and (folder / "ckpt").is_dir()
    if fresh and is_run and not force:
        there = f"a run of {old.step:,} steps" if (old := load_run_info(folder)) is not None else "a run"
        raise UserError(f"{folder} holds {there}; --fresh --force removes it, or choose another --out", CHECKPOINT)
    if fresh and is_run:
        with exclusive_writer(folder, screen.print):
            for path in folder.iterdir():
                if path.name != NAME:  # it is open, and Windows removes no open file
                    files.filesystem.remove(path)
        with suppress(OSError):  # unless another process has begun to train there
            folder.rmdir()
        screen.print(f"removed the run that was in {folder}", soft_wrap=keeps_lines(screen))
    elif is_run and (old := load_run_info(folder)) is not None:
        check_same_run(folder, old.config, with_order_of(old.config, config))
    elif not is_run and not (folder / "config.yaml").is_file() and any(path.name != NAME for path in folder.iterdir()):
        raise UserError(f"--out {folder} is a folder of other things; expected a run directory, an empty folder, or a name that is free")


def _print_summary(run: Trainer, screen: Console, seconds: float, debug: bool = False) -> None:
    """How it went, where everything lies, what to do next. Training is over: what fails here is a warning."""
    from llm_scratch.cli.commands.plan import compare_with_plan

    folder, best = run.folder, run.best
    bits = best / math.log(2) / run.bytes_per_token
    sample = sample_in_words(run.config, len(run.val_loader))
    done = (
        f"Done in {format_duration(seconds)}. Best held-out loss: {best:.4f} nats per token, {bits:.4f} bits per byte, "
        f"on {sample}; `llm-scratch evaluate` reads every token."
    )
    screen.print(f"\n{done}", soft_wrap=keeps_lines(screen))
    with optional_step("plan not compared", shell_command("plan", folder), screen, debug):
        if (beside := compare_with_plan(folder)) is not None:
            screen.print(f"The plan: {beside}", soft_wrap=keeps_lines(screen))
    if run.config.data.source.partition(":")[0] == "stories":
        with optional_step("skills not measured", shell_command("evaluate", folder, "--skills"), screen, debug):
            _measure_skills(run, screen)
    prompt = [run.prompt] if run.prompt else []
    for what, where in (
        ("model", folder), ("loss", folder / "loss-plot.png"), ("samples", folder / "samples.md"), ("log", folder / "log.txt"),
        ("next", shell_command("generate", folder, *prompt)), ("", shell_command("evaluate", folder)), ("", shell_command("plot", folder)),
    ):  # fmt: skip
        line = f"{what:>8}  {where}" if keeps_lines(screen) else f"{what or 'or'}: {where}"
        screen.print(line, soft_wrap=keeps_lines(screen))


def _measure_skills(run: Trainer, screen: Console) -> None:
    """Show what a model of the stories can do, write it as skills.json, and draw the loss again with the grammar's floor."""
    from llm_scratch.cli.skills import print_skills
    from llm_scratch.loading import load

    with screen.status("measuring skills on new stories …"):
        results = print_skills(screen, *load(run.folder, str(run.device)), run.step)
    results.save(run.folder)
    draw([run.folder], [run.folder / "loss-plot.png", run.folder / "loss-plot.pdf"])
