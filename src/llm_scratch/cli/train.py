"""Train a model: preset, then file, then flags; go on where a run stopped; say where everything lies.

Proof: tests/cli/test_train.py.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional

from llm_scratch.cli.beginning import begin_from, beginning, branch, run_of
from llm_scratch.cli.flags import Switch, Verb, option
from llm_scratch.cli.folders import check_can_write, folder_for, read_run
from llm_scratch.cli.plot import draw
from llm_scratch.cli.terminal import command, console, count, duration, keeps_lines
from llm_scratch.config import DataConfig, MachineConfig, ModelConfig, RunConfig, TrainConfig, dump_config, learned, load_config, to_dict
from llm_scratch.errors import CHECKPOINT, USAGE, UserError, unknown
from llm_scratch.presets import PRESETS, preset
from llm_scratch.training.launcher import launched_rank
from llm_scratch.training.lock import NAME, only_writer

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus
    from llm_scratch.training.loop import Run


OUTPUT_LOST = "llm-scratch: standard output cannot be written; the run continues, its log.txt has every line"


@dataclass(frozen=True)
class Train(Verb):
    """Train a model as PRESET says; a file and flags change single settings.

    Ctrl-C saves first, and the same command goes on, as it does after a crash.

    examples:
      llm-scratch train quickstart
      llm-scratch train shakespeare --out runs/bard --train.steps 500
    """

    preset: Positional[Annotated[str, option("PRESET")]] = ""
    """quickstart, verdict, shakespeare, gpt2-small, or one that --import adds"""
    config: Annotated[str, option("FILE")] = ""
    """a YAML file of settings, over the preset's (`llm-scratch config PRESET` prints one to begin with)"""
    from_: Annotated[str, option("MODEL", "from")] = ""
    """a model to go on from: gpt2, hf:org/name, a folder, a run; its weights, shape and tokenizer"""
    out: Annotated[str, option("FOLDER")] = ""
    """the run directory; runs/DATE-PRESET unless given, or the unfinished run of these settings there"""
    resume: Annotated[str, option("auto|PATH")] = "auto"
    """auto: go on with the run in --out if it is of these settings; or a run, or a checkpoint, from which a new --out goes on"""
    fresh: Switch = False
    """start over; a run that is in --out stays, unless there is --force too"""
    force: Switch = False
    """with --fresh: remove the run that is in --out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    print_config: Switch = False
    """print exactly what would run, as YAML, and stop"""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    @classmethod
    def defaults(cls, words: Sequence[str], given: Mapping[str, str], asks: bool) -> Train:
        """What flags change: the preset's settings, with the file's over them."""
        if not words and "--config" not in given and not asks:
            raise UserError(f"which preset? known: {', '.join(PRESETS)}; `llm-scratch config` says what they do", USAGE)
        base = preset(words[0]) if words else RunConfig()
        if given.get("--config"):
            base = load_config(given["--config"], base)
        if given.get("--from"):
            base = begin_from(given["--from"], base, given)
        return cls(from_=base.start, model=base.model, data=base.data, train=base.train, machine=base.machine)

    def run(self) -> None:
        """Train, then say how it went."""
        config = RunConfig(self.model, self.data, self.train, self.machine, self.from_)
        if self.print_config:
            print(dump_config(config), end="")
            return
        screen, here = console(lenient=OUTPUT_LOST), launched_rank()
        first = here.is_main
        screen.quiet = not first
        if here.leftover:
            ignored = "is ignored: no WORLD_SIZE above 1 is set, so this is the only process"
            screen.print(f"warning: {here.leftover} {ignored}", soft_wrap=keeps_lines(screen))
        folder = self._folder(config, screen) if first else Path()
        _check_names(config)
        from llm_scratch.cli.device import choose
        from llm_scratch.cli.plan import look_ahead
        from llm_scratch.cli.progress import Watch
        from llm_scratch.data.corpus import prepare
        from llm_scratch.hardware.allocator import keep_freed_memory
        from llm_scratch.training.loop import train
        from llm_scratch.training.team import joined

        keep_freed_memory()
        device, why = choose(self.device)
        screen.print(f"device: {why}", soft_wrap=keeps_lines(screen))
        with joined(device) as team:
            folder = team.tell(folder)
            model, tokenizer = beginning(config, folder) if config.start else (None, None)
            with screen.status(f"reading {config.data.source} …"):
                corpus = prepare(config, tokenizer)
            _introduce(config, corpus, screen)
            plan = None
            if first:
                with optional_step("no plan made", "", screen, self.debug):
                    plan = look_ahead(config, folder, device, corpus, screen)
            began = time.perf_counter()
            with Watch(screen, plan=plan) as watch:
                run = train(config, folder, device=device, watcher=watch, corpus=corpus, model=model)
        if first:
            _sum_up(run, screen, time.perf_counter() - began, self.debug)

    def _folder(self, config: RunConfig, screen: Console) -> Path:
        """The run directory; `--fresh --force` has emptied it, and it can be written."""
        if self.force and not self.fresh:
            raise UserError("--force alone does nothing; --fresh --force removes the run that is in --out", USAGE)
        if self.resume != "auto" and self.fresh:
            raise UserError("--resume goes on and --fresh starts over; give one of them", USAGE)
        if self.resume != "auto":
            _make_room(run_of(Path(self.resume)), config, fresh=False, force=False, screen=screen)
            folder = branch(Path(self.resume), self.out)
            screen.print(f"run: goes on from {self.resume} in {folder}", soft_wrap=True)
        elif not self.out:
            name = self.preset or Path(self.config).stem
            folder, why = folder_for(config, name, date.today().isoformat(), self.fresh)
            screen.print(f"run: {why}", soft_wrap=True)
        else:
            folder = Path(self.out)
            _make_room(folder, config, self.fresh, self.force, screen)
        if (folder / NAME).exists():
            with only_writer(folder, screen.print):
                pass  # somebody trains there, or nobody: known before torch is imported
        check_can_write(folder)
        return folder


def _introduce(config: RunConfig, corpus: Corpus, screen: Console) -> None:
    """What is learned from, and what learns."""
    screen.print(
        f"text: {config.data.source}, {count(len(corpus.train))} tokens to learn from, {count(len(corpus.val))} held out, "
        f"{corpus.bytes_per_token:.2f} bytes a token",
        soft_wrap=keeps_lines(screen),
    )
    origin = f", from {config.start}" if config.start else ""
    screen.print(f"model: {config.model.architecture}, {count(config.model.n_params)} parameters{origin}", soft_wrap=keeps_lines(screen))


def _make_room(folder: Path, config: RunConfig, fresh: bool, force: bool, screen: Console) -> None:
    """See that `folder` is new, empty, or a run of the same settings; with `fresh` and `force`, remove a run that is there.

    Raises:
        UserError: it is something else, which stays as it is.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"--out {folder} is a file; expected a folder, or a name that is free")
    is_run = (folder / "config.yaml").is_file() and (folder / "ckpt").is_dir()
    if fresh and is_run and not force:
        there = f"a run of {old.step:,} steps" if (old := read_run(folder)) is not None else "a run"
        raise UserError(f"{folder} holds {there}; --fresh --force removes it, or choose another --out", CHECKPOINT)
    if fresh and is_run:
        with only_writer(folder, screen.print):
            shutil.rmtree(folder)
        screen.print(f"removed the run that was in {folder}", soft_wrap=True)
    elif is_run and (old := read_run(folder)) is not None and learned(to_dict(old.config)) != learned(to_dict(config)):
        raise UserError(
            f"{folder} holds a run with other settings ({_difference(old.config, config)}); choose another --out, or --fresh --force",
            CHECKPOINT,
        )
    elif not is_run and not (folder / "config.yaml").is_file() and any(path.name != NAME for path in folder.iterdir()):
        raise UserError(f"--out {folder} is a folder of other things; expected a run directory, an empty folder, or a name that is free")


def _difference(old: RunConfig, new: RunConfig) -> str:
    """The first setting in which two runs differ: "train.lr is 0.02 there, 0.01 here"."""
    if old.start != new.start:
        return f"it begins with {old.start or 'fresh weights'} there, with {new.start or 'fresh weights'} here"
    there, here = learned(to_dict(old)), learned(to_dict(new))
    pairs = [(f"{part}.{key}", there[part][key], here[part][key]) for part in here if part != "start" for key in here[part]]
    return next(f"{name} is {a} there, {b} here" for name, a, b in pairs if a != b)


def _check_names(config: RunConfig) -> None:
    """Every name that a table answers, before any work is done.

    Raises:
        UserError: a name that is in no table; names the nearest.
    """
    from llm_scratch.data.sources import SOURCES
    from llm_scratch.model import MODELS
    from llm_scratch.tokenizers import TOKENIZERS
    from llm_scratch.training.optim import OPTIMIZERS
    from llm_scratch.training.schedule import SCHEDULES

    for kind, name, known in (
        ("source", config.data.source.partition(":")[0], SOURCES),
        ("tokenizer", config.data.tokenizer, TOKENIZERS),
        ("architecture", config.model.architecture, MODELS),
        ("optimizer", config.train.optimizer, OPTIMIZERS),
        ("schedule", config.train.schedule, SCHEDULES),
    ):
        if name not in known:
            raise unknown(kind, name, known)


def _sum_up(run: Run, screen: Console, seconds: float, debug: bool = False) -> None:
    """How it went, where everything lies, what to do next. Training is over: what fails here is a warning."""
    from llm_scratch.cli.plan import look_back

    folder, best = run.folder, run.best
    bits = best / math.log(2) / run.bytes_per_token
    done = f"Done in {duration(seconds)}. Best held-out loss: {best:.4f} nats per token, {bits:.4f} bits per byte."
    screen.print(f"\n{done}", soft_wrap=keeps_lines(screen))
    with optional_step("plan not compared", command("plan", folder), screen, debug):
        if (beside := look_back(folder)) is not None:
            screen.print(f"The plan: {beside}", soft_wrap=keeps_lines(screen))
    if run.config.data.source.partition(":")[0] == "stories":
        with optional_step("skills not measured", command("evaluate", folder, "--skills"), screen, debug):
            _measure_skills(run, screen)
    prompt = run.config.train.prompt
    for what, where in (
        ("model", folder), ("loss", folder / "loss-plot.png"), ("samples", folder / "samples.md"), ("log", folder / "log.txt"),
        ("next", command("generate", folder, prompt)), ("", command("evaluate", folder)), ("", command("plot", folder)),
    ):  # fmt: skip
        line = f"{what:>8}  {where}" if keeps_lines(screen) else f"{what or 'or'}: {where}"
        screen.print(line, soft_wrap=keeps_lines(screen))


@contextmanager
def optional_step(problem: str, again: str, screen: Console, debug: bool = False) -> Iterator[None]:
    """Turn an error inside the block into one warning line, as the work that it belongs to is done or can be done without it.

    Args:
        problem: what is missing then, as "skills not measured".
        again: the command that does it, "" if there is none.
        screen: gets the warning.
        debug: print the traceback too.
    """
    try:
        yield
    except Exception as e:
        if debug:
            traceback.print_exc()
        reason = " ".join(str(e).split()) if isinstance(e, UserError) else " ".join(f"{type(e).__name__}: {e}".split())
        hint = f"; to try again: {again}" if again else ""
        screen.print(f"warning: {problem}: {reason}{hint}", soft_wrap=keeps_lines(screen))


def _measure_skills(run: Run, screen: Console) -> None:
    """Show what a model of the stories can do, write it as skills.json, and draw the loss again with the grammar's floor."""
    from llm_scratch.cli.skills import show_skills
    from llm_scratch.files import write_whole
    from llm_scratch.loading import load

    with screen.status("measuring skills on new stories …"):
        measured = show_skills(screen, *load(run.folder, str(run.device)))
    write_whole(run.folder / "skills.json", json.dumps(measured, indent=1) + "\n")
    draw([run.folder], [run.folder / "loss-plot.png", run.folder / "loss-plot.pdf"])
