"""Texts of any size: into token shards once, and a look whether they are as they were written. Proof: tests/cli/test_prepare_data.py."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Command, Flag, ReportCommand, option
from llm_scratch.cli.folders import check_can_write
from llm_scratch.cli.output import is_quiet, print_json
from llm_scratch.cli.terminal import console, keeps_lines, print_note
from llm_scratch.errors import DATA, UserError
from llm_scratch.formatting import format_count, format_duration, shell_command
from llm_scratch.storage.files import format_bytes
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from llm_scratch.data.shards import ShardIndex, ShardProgress

MIN_BAR_COLUMNS = 76  # for the bar and all beside it; in fewer, numbers would be cut
MAX_WORKERS = 8  # workers, unless told: so many stay under 1 GiB of memory


@dataclass(frozen=True)
class PrepareData(Command):
    """Turn SOURCE into token shards, which training reads from disk.

    The text may be larger than the memory. Stopped, the same command goes on.

    examples:
      llm-scratch data prepare books/ --out shards/books
      llm-scratch data prepare web.jsonl --out shards/web --tokenizer bpe
      llm-scratch data prepare hf:roneneldan/TinyStories --out shards/tiny
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a text, .jsonl or .parquet file; a folder of them; hf:NAME for a data set of the Hugging Face Hub; or a name of `data list`"""
    out: Annotated[str, arg(metavar="FOLDER")]
    """where the shards go"""
    tokenizer: Annotated[str, arg(metavar="TOKENIZER")] = "gpt2"
    """gpt2; bpe or chars, learned from SOURCE; or a tokenizer.json, its folder, or a run"""
    vocab_size: Annotated[int | None, option("N")] = None
    """how many tokens bpe learns; 4096 unless given"""
    field: Annotated[str, arg(metavar="NAME")] = "text"
    """where the text stands in a line of .jsonl or a row of a table"""
    shard_tokens: Annotated[str, arg(metavar="N")] = "100M"
    """tokens in a shard, such as 500k or 100M"""
    workers: Annotated[int, option("N")] = 0
    """processes; as many as there are processors, but not more than 8, unless given"""
    fresh: Flag = False
    """start over: removes the shards in --out, if there are some"""

    def run(self) -> None:
        """Prepare, then say what came out and how to train on it."""
        from llm_scratch.cli.commands.doctor import cpu_count
        from llm_scratch.cli.commands.tokenizer import resolve_tokenizer
        from llm_scratch.data.sharding import make_shards
        from llm_scratch.tokenizers import TOKENIZERS

        screen = console()
        shard_tokens = parse_count("--shard-tokens", self.shard_tokens)
        tokenizer = self.tokenizer if self.tokenizer in TOKENIZERS else resolve_tokenizer(self.tokenizer)
        workers = self.workers or min(MAX_WORKERS, cpu_count())
        check_can_write(expand_user(self.out))
        if self.fresh:
            remove_shards(expand_user(self.out), screen)
        began = time.perf_counter()
        with PrepareProgress(screen) as reading:
            index = make_shards(
                self.source, self.out, tokenizer, vocab_size=self.vocab_size, field=self.field, shard_tokens=shard_tokens,
                workers=workers, run_first=self.import_, on_progress=reading.after_portion, on_start=reading.found,
            )  # fmt: skip
        _sum_up(index, self.out, screen, time.perf_counter() - began if reading.moved else None)


@dataclass(frozen=True)
class CheckData(ReportCommand):
    """Compare every byte of the shards in FOLDER with what was written.

    examples:
      llm-scratch data check shards/books
      llm-scratch data check /data/web-shards
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """what `llm-scratch data prepare` made"""

    def run(self) -> None:
        """Read it all; an error names the first file that is damaged."""
        from llm_scratch.data.shards import ShardIndex, check_shards

        screen = console()
        with screen.status(f"reading {self.folder} …") as status:
            for file in check_shards(self.folder):
                status.update(f"{file} is as it was written")
        index = ShardIndex.load(expand_user(self.folder))
        if self.json:
            fields = {"folder": self.folder, "ok": True, "tokens": index.tokens, "bytes": index.done.text_bytes}
            print_json(fields | {"shards": len(index.shards)})
            return
        screen.print(f"{self.folder}: {index.tokens:,} tokens in {_shards(index)}, all as they were written", soft_wrap=keeps_lines(screen))


class PrepareProgress:
    """Shows how far a source is read: a bar on a terminal, else a line a minute."""

    def __init__(self, screen: Console, every: float = 60.0) -> None:
        self.screen, self.every = screen, every
        self.moved = False
        self.status = screen.status("finding the source, making the tokenizer …")
        self.bar = Progress(
            TextColumn("{task.fields[read]}"), BarColumn(None), TextColumn("{task.fields[speed]}"), TimeRemainingColumn(compact=True),
            TextColumn("left"), console=screen, expand=True, transient=True,
            disable=not screen.is_terminal or screen.width < MIN_BAR_COLUMNS or is_quiet(),
        )  # fmt: skip

    def __enter__(self) -> PrepareProgress:
        self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.status.stop()
        self.bar.stop()

    def found(self, size: int, index: ShardIndex) -> None:
        """The source is found, and work begins, or goes on where `index` says."""
        self.size, self.first, self.began = size, index.tokens, time.perf_counter()
        self.said = self.began
        self.status.stop()
        if index.tokens and not index.complete:
            print_note(f"goes on after {index.tokens:,} tokens", self.screen)
        if not index.complete:
            done = index.done.source_bytes
            self.bar.add_task("", total=size, completed=done, read=f"{format_bytes(done)} of {format_bytes(size)}", speed="")
            self.bar.start()

    def after_portion(self, done: ShardProgress, tokens: int) -> None:
        """Move on."""
        self.moved = True
        now = time.perf_counter()
        speed = f"{format_count(tokens)} tokens, {format_count((tokens - self.first) / max(now - self.began, 1e-9))} a second"
        read = f"{format_bytes(done.source_bytes)} of {format_bytes(self.size)}"
        self.bar.update(self.bar.task_ids[0], completed=done.source_bytes, read=read, speed=speed)
        if self.bar.disable and now - self.said > self.every:
            self.said = now
            print_note(f"{read}, {speed}", self.screen)


def parse_count(flag: str, text: str) -> int:
    """A whole number that may be written 500k, 100M or 2G.

    Raises:
        UserError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,15})([kKmMgG]?)", text.replace("_", ""))
    if not found or not int(found[1]):
        raise UserError(f"{flag} is {text!r}; expected a whole number such as 500k or 100M")
    return int(found[1]) * 1000 ** " kmg".index(found[2].lower() or " ")


def remove_shards(folder: Path, screen: Console) -> None:
    """Remove a folder of shards, finished or not.

    Raises:
        UserError: the folder holds something else, which stays as it is (code 3).
    """
    if not folder.exists():
        return
    ours = re.compile(r"index\.json|tokenizer\.json|shard-\d{5,}\.bin|\..*\.part")
    strange = sorted(path.name for path in folder.iterdir() if not ours.fullmatch(path.name)) if folder.is_dir() else [folder.name]
    if strange:
        raise UserError(
            f"--fresh: {folder} holds more than shards, such as {strange[0]!r}; remove it yourself or choose another --out", DATA
        )
    if any(folder.iterdir()):
        shutil.rmtree(folder)
        screen.print(f"removed the shards that were in {folder}", soft_wrap=keeps_lines(screen))


def _sum_up(index: ShardIndex, out: str, screen: Console, seconds: float | None) -> None:
    """What the folder holds, and the next command."""
    done = index.done
    empty = f"; {done.empty:,} empty left out" if done.empty else ""
    screen.print(
        f"{out}: {index.tokens:,} tokens of {done.documents:,} {'documents' if done.documents != 1 else 'document'} in {_shards(index)}, "
        f"{done.text_bytes / max(1, index.tokens):.2f} bytes a token{empty}",
        soft_wrap=keeps_lines(screen),
    )
    if seconds is None:
        screen.print("all was there already; --fresh starts over")
    else:
        screen.print(f"{format_duration(seconds)}, {done.text_bytes / 1e6 / max(seconds, 1e-9):.1f} MB of text a second")
    words = ["train", "shakespeare", "--data.source", f"shards:{out}", "--model.vocab-size", str(index.n_vocab)]
    if not is_quiet():
        screen.print(f"train on it: {shell_command(*words)}", soft_wrap=True)


def _shards(index: ShardIndex) -> str:
    return f"{len(index.shards)} {'shards' if len(index.shards) != 1 else 'shard'}"
