"""`data prepare` and `data check`: write token shards of a text of any size, and verify them.

Tests: tests/cli/test_prepare_data.py.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Command, Flag, ReportCommand, option
from llm_scratch.cli.folders import check_can_write
from llm_scratch.cli.output import is_quiet, print_json
from llm_scratch.cli.terminal import console, keeps_lines, print_note
from llm_scratch.errors import DATA, UserError
from llm_scratch.formatting import (
    counted,
    format_bytes,
    format_count,
    format_duration,
    shell_command,
)
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.data.shards import ShardIndex, ShardProgress

MIN_BAR_COLUMNS = 76
"""Width of the progress bar with its numbers; on a narrower terminal, numbers would be cut."""
MAX_WORKERS = 8
"""Default upper limit of processes, which together stay under 1 GiB of memory."""


@dataclass(frozen=True)
class PrepareData(Command):
    """Tokenize SOURCE into shards, which training reads from disk.

    The text may be larger than memory. The same command resumes after a stop.

    examples:
      llm-scratch data prepare books/ --out shards/books
      llm-scratch data prepare web.jsonl --out shards/web --tokenizer bpe
      llm-scratch data prepare hf:roneneldan/TinyStories --out shards/tiny
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a text, .jsonl or .parquet file; a folder of them;
    hf:NAME for a Hugging Face dataset; or a source of `data list`
    """
    out: Annotated[str, arg(metavar="FOLDER")]
    """folder of the shards"""
    tokenizer: Annotated[str, arg(metavar="TOKENIZER")] = "gpt2"
    """gpt2; bpe or chars, trained on SOURCE; or a tokenizer.json, its folder, or a run"""
    vocab_size: Annotated[int | None, option("N")] = None
    """vocabulary size of bpe (default: 4096)"""
    field: Annotated[str, arg(metavar="NAME")] = "text"
    """name of the text field in .jsonl lines and table rows"""
    shard_tokens: Annotated[str, arg(metavar="N")] = "100M"
    """number of tokens in a shard, such as 500k or 100M"""
    workers: Annotated[int, option("N")] = 0
    """number of processes (default: the number of cores, at most 8)"""
    fresh: Flag = False
    """start over: remove the shards in --out"""

    def run(self) -> None:
        """Write the shards, then print a summary and the command to train on them."""
        from llm_scratch.cli.commands.tokenizer import resolve_tokenizer
        from llm_scratch.data.sharding import make_shards
        from llm_scratch.hardware.processor import cpu_count
        from llm_scratch.tokenizers import TOKENIZERS

        screen = console()
        shard_tokens = parse_count("--shard-tokens", self.shard_tokens)
        tokenizer = (
            self.tokenizer if self.tokenizer in TOKENIZERS else resolve_tokenizer(self.tokenizer)
        )
        workers = self.workers or min(MAX_WORKERS, cpu_count())
        check_can_write(expand_user(self.out))
        if self.fresh:
            remove_shards(expand_user(self.out), screen)
        began = time.perf_counter()
        with PrepareProgress(screen) as progress:
            index = make_shards(
                self.source,
                self.out,
                tokenizer,
                vocab_size=self.vocab_size,
                field=self.field,
                shard_tokens=shard_tokens,
                workers=workers,
                run_first=self.import_,
                on_progress=progress.on_progress,
                on_start=progress.on_start,
            )
        _print_summary(
            index, self.out, screen, time.perf_counter() - began if progress.has_read else None
        )


@dataclass(frozen=True)
class CheckData(ReportCommand):
    """Verify the checksums of all shards in FOLDER.

    examples:
      llm-scratch data check shards/books
      llm-scratch data check /data/web-shards
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """a folder of `llm-scratch data prepare`"""

    def run(self) -> None:
        """Read all files; an error names the first damaged one."""
        from llm_scratch.data.shards import ShardIndex, check_shards

        screen = console()
        with screen.status(f"reading {self.folder} …") as status:
            for file in check_shards(self.folder):
                status.update(f"{file}: ok")
        index = ShardIndex.load(expand_user(self.folder))
        if self.json:
            fields = {
                "folder": self.folder,
                "ok": True,
                "tokens": index.tokens,
                "bytes": index.done.text_bytes,
            }
            print_json(fields | {"shards": len(index.shards)})
            return
        screen.print(
            f"{self.folder}: {index.tokens:,} tokens in {_n_shards(index)}, no damage found",
            soft_wrap=keeps_lines(screen),
        )


class PrepareProgress:
    """Progress of `data prepare`: a bar on a terminal, else one line a minute.

    Args:
        screen: where to print.
        every: seconds between two lines.
    """

    def __init__(self, screen: Console, every: float = 60.0) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.screen, self.every = screen, every
        self.has_read = False
        self.status = screen.status("finding the source, making the tokenizer …")
        self.bar = Progress(
            TextColumn("{task.fields[read]}"),
            BarColumn(None),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=screen,
            expand=True,
            transient=True,
            disable=not screen.is_terminal or screen.width < MIN_BAR_COLUMNS or is_quiet(),
        )

    def __enter__(self) -> PrepareProgress:
        self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.status.stop()
        self.bar.stop()

    def on_start(self, size: int, index: ShardIndex) -> None:
        """Start the bar, or resume it after the tokens in `index`.

        Args:
            size: bytes of the source.
            index: of the shards that exist already.
        """
        self.size, self.first, self.began = size, index.tokens, time.perf_counter()
        self.last_printed = self.began
        self.status.stop()
        if index.tokens and not index.complete:
            print_note(f"resuming after {index.tokens:,} tokens", self.screen)
        if not index.complete:
            done = index.done.source_bytes
            self.bar.add_task(
                "",
                total=size,
                completed=done,
                read=f"{format_bytes(done)} of {format_bytes(size)}",
                speed="",
            )
            self.bar.start()

    def on_progress(self, done: ShardProgress, tokens: int) -> None:
        """Show how much of the source has been read, and the speed."""
        self.has_read = True
        now = time.perf_counter()
        speed = (
            f"{format_count(tokens)} tokens,"
            f" {format_count((tokens - self.first) / max(now - self.began, 1e-9))} a second"
        )
        read = f"{format_bytes(done.source_bytes)} of {format_bytes(self.size)}"
        self.bar.update(self.bar.task_ids[0], completed=done.source_bytes, read=read, speed=speed)
        if self.bar.disable and now - self.last_printed > self.every:
            self.last_printed = now
            print_note(f"{read}, {speed}", self.screen)


def parse_count(flag: str, text: str) -> int:
    """Parse a whole number such as 500k, 100M or 2G.

    Raises:
        UserError: names the flag.
    """
    match = re.fullmatch(r"([0-9]{1,15})([kKmMgG]?)", text.replace("_", ""))
    if not match or not int(match[1]):
        raise UserError(f"{flag} is {text!r}; expected a whole number such as 500k or 100M")
    return int(match[1]) * 1000 ** " kmg".index(match[2].lower() or " ")


def remove_shards(folder: Path, screen: Console) -> None:
    """Remove a folder of shards, finished or not.

    Raises:
        UserError: the folder holds something else, which stays as it is (code 3).
    """
    if not folder.exists():
        return
    shard_files = re.compile(
        r"index\.json|tokenizer\.json|tokenizer_config\.json|shard-\d{5,}\.bin|\..*\.part"
    )
    if folder.is_dir():
        others = sorted(
            path.name for path in folder.iterdir() if not shard_files.fullmatch(path.name)
        )
    else:
        others = [folder.name]
    if others:
        raise UserError(
            f"--fresh: {folder} holds more than shards, such as {others[0]!r};"
            " remove it yourself or choose another --out",
            DATA,
        )
    if any(folder.iterdir()):
        shutil.rmtree(folder)
        screen.print(f"removed the shards that were in {folder}", soft_wrap=keeps_lines(screen))


def _print_summary(index: ShardIndex, out: str, screen: Console, seconds: float | None) -> None:
    """Print what the folder holds, and the next command."""
    done = index.done
    empty = f"; {done.empty:,} empty skipped" if done.empty else ""
    screen.print(
        f"{out}: {index.tokens:,} tokens of {counted(done.documents, 'document')} in"
        f" {_n_shards(index)},"
        f" {done.text_bytes / max(1, index.tokens):.2f} bytes a token{empty}",
        soft_wrap=keeps_lines(screen),
    )
    if seconds is None:
        screen.print("nothing to do: the shards are complete; --fresh starts over")
    else:
        screen.print(
            f"{format_duration(seconds)},"
            f" {format_bytes(done.text_bytes / max(seconds, 1e-9))} of text a second"
        )
    words = [
        "train",
        "shakespeare",
        "--data.source",
        f"shards:{out}",
        "--model.vocab-size",
        str(index.n_vocab),
    ]
    if not is_quiet():
        screen.print(f"train on it: {shell_command(*words)}", soft_wrap=True)


def _n_shards(index: ShardIndex) -> str:
    return counted(len(index.shards), "shard")
