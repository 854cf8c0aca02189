"""`llm-scratch train text PATH...`: train on your own text, with settings chosen for it.

The choice is saved in the run directory as choice.json;
the same command finds it there and resumes with the same settings.
Tests: tests/cli/test_own_text.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.architectures import NOT_IN_WEIGHTS, NanoChatConfig
from llm_scratch.cli.folders import find_runs
from llm_scratch.cli.init_from import run_directory_of
from llm_scratch.cli.terminal import keeps_lines, table
from llm_scratch.config import DataConfig, RunConfig, TrainConfig, from_dict, to_dict
from llm_scratch.errors import CHECKPOINT, DATA, USAGE, UserError
from llm_scratch.formatting import sanitize
from llm_scratch.planning.choice import Choice
from llm_scratch.presets import OWN_TEXT
from llm_scratch.ranges import check
from llm_scratch.storage.safe_parse import read_yaml
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.training.launcher import launched_rank

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.data.corpus import Corpus
    from llm_scratch.planning.plan import Plan
    from llm_scratch.tokenizers import Tokenizer
    from llm_scratch.training.trainer import Trainer

MINUTES = 5.0
STARTUP_SECONDS = 2.0  # start of Python and import of libraries, before the timer starts
ANY_WIDTH = (
    1_441_440  # placeholder until a width is chosen: a multiple of every number of heads up to 16
)
CONTINUATION = 300  # characters of each sample at the end


def base_config(paths: Sequence[str], source: str) -> RunConfig:
    """Settings before the choice, which replaces all that depend on the text.

    Args:
        paths: files, folders and patterns.
        source: the value of `--data.source`; "" without the flag.
    Raises:
        UserError: neither or both are set, or a path does not exist.
    """
    if bool(paths) == bool(source):
        if paths:
            problem = "PATH and --data.source exclude each other; leave one out"
        else:
            problem = "PATH is missing; name files, a folder or a pattern"
        raise UserError(f"train text: {problem}, as in `llm-scratch train text books/`", USAGE)
    return RunConfig(
        NanoChatConfig(
            vocab_size=256,
            context_length=128,
            emb_dim=ANY_WIDTH,
            n_heads=1,
            n_layers=2,
            drop_rate=0.0,
        ),
        DataConfig(source=source or source_of(paths), tokenizer="chars"),
        TrainConfig(
            steps=1000, batch_size=8, optimizer="muon", lr=0.05, weight_decay=0.0, schedule="linear"
        ),
    )


def source_of(paths: Sequence[str]) -> str:
    """The `data.source` for paths: files, folders, patterns, shards, or the name of a source.

    Raises:
        UserError: there is no such file, folder or source (code 3).
    """
    from llm_scratch.data.sources import SOURCES, expand_pattern

    first, *others = paths
    if not others and not expand_user(first).exists() and first.partition(":")[0] in SOURCES:
        return first
    if not others and (expand_user(first) / "index.json").is_file():
        return f"shards:{first}"
    for path in paths:
        if not all(file.exists() for file in expand_pattern(path)):
            raise UserError(
                f"{path}: no such file or folder;"
                " use text files, a folder, or a pattern such as 'books/*.txt'",
                DATA,
            )
    return f"file:{first if not others else json.dumps(list(paths), ensure_ascii=False)}"


def run_name(source: str) -> str:
    """A name for runs of a source: "books" for `file:books/`, "text" for several paths."""
    argument = source.partition(":")[2] or source
    parts = [part for part in Path(argument).parts if not re.search(r"[*?\[]", part)]
    name = Path(parts[-1]).stem if parts and not argument.startswith("[") else ""
    name = re.sub(r"\W+", "-", name).strip("-_")[:40]
    # a number at the end counts runs of the same day
    return re.sub(r"-(\d+)$", r"_\1", name) or OWN_TEXT


def fixed_settings(set_flags: Mapping[str, str], file: str, base: RunConfig) -> tuple[str, ...]:
    """Names of the settings that are not chosen: of flags, a file and an initial model."""
    names = {
        flag.lstrip("-").replace("-", "_").replace(".no_", ".") for flag in set_flags if "." in flag
    }
    if file:
        names |= {
            f"{part}.{key}"
            for part, values in read_yaml(file, USAGE).items()
            if isinstance(values, dict)
            for key in values
        }
    if base.init_from:
        names |= {
            "data.tokenizer",
            *(f"model.{key}" for key in base.model if key not in NOT_IN_WEIGHTS),
        }
    return tuple(sorted(names))


@dataclass(frozen=True)
class OwnText:
    """A command `train text`: its settings, its time budget, and when it began."""

    config: RunConfig
    """with the settings of flags and file"""
    fixed: frozenset[str]
    """names of settings that are not chosen"""
    minutes: float
    began: float
    """time.perf_counter()"""

    @property
    def request(self) -> dict[str, Any]:
        """What determines the choice, as saved in choice.json; system settings do not."""
        values = to_dict(self.config)
        settings = {
            name: values[part][key]
            for name in sorted(self.fixed)
            for part, key in [name.split(".")]
            if part != "system"
        }
        return {
            "source": self.config.data.source,
            "minutes": self.minutes,
            "init_from": self.config.init_from,
            "settings": settings,
        }

    def recover(self, out: str, resume: str, fresh: bool) -> Choice | None:
        """The choice of an earlier run: in `out`, at `resume`, or unfinished; None if new.

        Raises:
            UserError: the named run has another text, time or settings (code 4).
        """
        if fresh:
            return None
        named = run_directory_of(Path(resume)) if resume != "auto" else Path(out) if out else None
        if named is None:
            folders = [run.path for run in reversed(find_runs()) if not run.finished]
        else:
            folders = [named]
        earlier = [
            (folder, choice) for folder in folders if (choice := Choice.load(folder)) is not None
        ]
        for _, choice in earlier:
            if choice.request == self.request:
                return replace(choice, config=self._on_this_machine(choice.config))
        if named is not None and earlier:
            raise UserError(
                f"{named}: this run has other settings"
                f" ({_difference(earlier[0][1].request, self.request)}); choose another --out, or"
                " --fresh --force",
                CHECKPOINT,
            )
        return None

    def _on_this_machine(self, config: RunConfig) -> RunConfig:
        """The settings of a run, with the system settings of this command."""
        system = to_dict(self.config.system)
        overrides = {
            key: system[key]
            for part, key in (name.split(".") for name in self.fixed)
            if part == "system"
        }
        return from_dict(RunConfig, {"system": overrides}, config)

    def choose(self, device: str, screen: Console) -> tuple[Choice, Plan, Corpus]:
        """Choose settings, with a status line meanwhile."""
        import torch

        from llm_scratch.planning.choose_run import choose_run

        tokenizer: Tokenizer | None = None
        if self.config.init_from:
            from llm_scratch.loading import load

            tokenizer = load(self.config.init_from)[1]
        with screen.status("reading the text …") as status:
            return choose_run(
                self.config,
                self.fixed,
                self.minutes * 60,
                torch.device(device),
                request=self.request,
                tokenizer=tokenizer,
                spent=lambda: time.perf_counter() - self.began + STARTUP_SECONDS,
                report=status.update,
            )


def own_text(config: RunConfig, fixed: Sequence[str], minutes: float | None) -> OwnText:
    """Check and record the command.

    Raises:
        UserError: a time out of range, or several processes.
    """
    minutes = MINUTES if minutes is None else minutes
    check("minutes", minutes, "--minutes")
    if launched_rank().size > 1:
        raise UserError(
            "train text: settings are chosen in one process; print them with --print-config >"
            " mine.yaml, then start the processes with `train --config mine.yaml`",
            USAGE,
        )
    return OwnText(config, frozenset(fixed), minutes, time.perf_counter())


def read_again(choice: Choice, run: Path) -> list[str] | None:
    """Read the text of a resumed run and check that it is unchanged; None for token shards.

    Raises:
        UserError: the text has changed since the run began (code 3).
    """
    from llm_scratch.data.corpus import TextFingerprint
    from llm_scratch.data.sources import read

    if not choice.fingerprint:
        return None
    documents = read(choice.config.data.source)
    if TextFingerprint.of(documents).sha256 != choice.fingerprint:
        raise UserError(
            f"{run}: the text has changed since this run began;"
            " restore it, or start a new run with --fresh",
            DATA,
        )
    return documents


def show_choice(lines: Mapping[str, str], screen: Console) -> None:
    """Print the lines of a choice as a table."""
    grid = table("", "", left=2)
    grid.show_header = False
    for subject, sentence in lines.items():
        grid.add_row(subject, sentence)
    screen.print(grid)


def as_comments(lines: Mapping[str, str]) -> str:
    """The lines of a choice as YAML comments."""
    return "".join(f"# {subject}: {sentence}\n" for subject, sentence in lines.items())


def show_continuations(run: Trainer, choice: Choice, screen: Console) -> None:
    """Print continuations of beginnings from the text."""
    from rich.text import Text

    from llm_scratch.generation.decode import stream

    run.model.eval()
    screen.print("\nBeginnings from the text, continued:")
    bytes_per_token = run.data.bytes_per_token or 1.0
    n_tokens = max(1, round(CONTINUATION * choice.facts.bytes_per_character / bytes_per_token))
    for number, prompt in enumerate(choice.prompts):
        chunks = stream(
            run.model,
            run.data.tokenizer,
            prompt,
            max_new_tokens=n_tokens,
            temperature=0.8,
            seed=number,
        )
        written = sanitize("".join(chunks)).rstrip()
        screen.print(Text.assemble("\n", (sanitize(prompt), "bold"), written))


def show_advice(run: Trainer, minutes: float, screen: Console) -> None:
    """Print what would make the model better."""
    from llm_scratch.planning.rules import advice
    from llm_scratch.run_directory import open_run

    losses = open_run(run.folder).evaluations
    for line in advice(losses, losses[-1].get("passes", 0.0) if losses else 0.0, minutes):
        screen.print(f"{'better':>8}  {line}", soft_wrap=keeps_lines(screen))


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first difference of two requests: "minutes is 5.0 there, 20.0 here"."""
    before, now = ({**request, **request["settings"], "settings": ""} for request in (old, new))
    name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
    return f"{name} is {before.get(name, 'chosen')} there, {now.get(name, 'chosen')} here"
