"""`data list`, `data download` and `data show`: text sources.

Tests: tests/cli/test_data.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Command, ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import shards_json, text_json
from llm_scratch.cli.terminal import boxed, console, excerpt, table
from llm_scratch.errors import UserError, unknown
from llm_scratch.formatting import format_count, sanitize
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from rich.console import Console

SAMPLE_CHARACTERS = 600
FLOOR_STORIES = 2000
"""Stories that give the entropy floor to three digits."""


@dataclass(frozen=True)
class ListSources(ReportCommand):
    """List the text sources, and whether each is on this machine.

    examples:
      llm-scratch data list
      llm-scratch data list --import mine.py
    """

    def run(self) -> None:
        """Print the table."""
        from llm_scratch.data.sources import SOURCES

        if self.json:
            print_json({"sources": [_source_json(name) for name in SOURCES]})
            return
        grid = table("source", "description", "where", left=3)
        for name, source in SOURCES.items():
            grid.add_row(_usage(name), _about(source), _where(name))
        console().print(grid)


def _usage(name: str) -> str:
    """A source as it is written, with its argument."""
    return {"stories": "stories:N", "file": "file:PATH", "shards": "shards:FOLDER"}.get(name, name)


def _about(source: object) -> str:
    """The first line of a source's docstring."""
    return (source.__doc__ or "").strip().split("\n")[0]


def _source_json(name: str) -> dict[str, Any]:
    """A source of `data list --json`; its path is null if there is no local copy."""
    from llm_scratch.data.sources import DOWNLOADED, SOURCES, on_this_machine

    path = on_this_machine(name) if name in DOWNLOADED else None
    fields = {"name": name, "usage": _usage(name), "description": _about(SOURCES[name])}
    return fields | {"needs_download": name in DOWNLOADED, "path": path}


def _where(name: str) -> str:
    """Where a source is, or the command that downloads it."""
    from llm_scratch.data.sources import DOWNLOADED, on_this_machine

    if name not in DOWNLOADED:
        return "your files" if name in ("file", "shards") else "on this machine"
    return "on this machine" if on_this_machine(name) else f"llm-scratch data download {name}"


def _download_gpt2() -> Path | None:
    """Download GPT-2's vocabulary into tiktoken's cache."""
    from llm_scratch.tokenizers import gpt2

    gpt2.load_gpt2()
    return gpt2.on_this_machine()


@dataclass(frozen=True)
class DownloadSource(Command):
    """Download text sources, once each; "gpt2" is GPT-2's vocabulary.

    examples:
      llm-scratch data download verdict
      llm-scratch data download shakespeare gpt2
    """

    names: Positional[Annotated[tuple[str, ...], option("NAME")]]
    """verdict, shakespeare, gpt2"""

    def run(self) -> None:
        """Download each source and print its path."""
        from llm_scratch.data.sources import DOWNLOADED, SOURCES
        from llm_scratch.storage.download import FILES, fetch

        downloads: dict[str, Callable[[], Path | None]] = {"gpt2": _download_gpt2}
        downloads |= {name: partial(fetch, file, *FILES[file]) for name, file in DOWNLOADED.items()}
        known = downloads.keys() | SOURCES.keys()
        if not self.names:
            raise UserError(f"NAME is missing; known: {', '.join(downloads)}")
        for name in self.names:
            if name not in known:
                raise unknown("source", name, known, extensible=True)
        for name in self.names:
            if name in downloads:
                print(f"{name}: {downloads[name]()}")
            else:
                print(f"{name}: needs no download")


@dataclass(frozen=True)
class ShowSource(ReportCommand):
    """Show the size of a source and a sample of its text.

    For stories, also show their entropy, a lower bound of the loss of any model.

    examples:
      llm-scratch data show stories:1000
      llm-scratch data show file:my-book.txt
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a source of `llm-scratch data list`, with its argument after a colon"""

    def run(self) -> None:
        """Read the source and print its statistics."""
        from llm_scratch.data.sources import read

        screen = console()
        kind, _, argument = self.source.partition(":")
        if kind == "shards":
            _show_shards(argument, screen, self.json)
            return
        with screen.status(f"reading {self.source} …"):
            documents = read(self.source)
        text = documents[0]
        if self.json:
            if kind == "stories":
                floor = story_entropy_floor(min(len(documents), FLOOR_STORIES))
            else:
                floor = None
            print_json(text_json(self.source, documents, floor, text[:SAMPLE_CHARACTERS]))
            return
        grid = table("", "")
        grid.show_header = False
        grid.columns[1].justify = "left"
        n_characters = sum(map(len, documents))
        size = sum(len(document.encode("utf-8", "surrogatepass")) for document in documents)
        grid.add_row("documents", f"{len(documents):,}")
        grid.add_row("words", f"{sum(len(document.split()) for document in documents):,}")
        grid.add_row("characters", f"{n_characters:,}, {len(set().union(*documents)):,} different")
        grid.add_row("bytes", f"{size:,} ({format_count(size)})" if size >= 10_000 else f"{size:,}")
        if kind == "stories":
            grid.add_row(
                "floor",
                f"{story_entropy_floor(min(len(documents), FLOOR_STORIES)):.4f} bits per byte, the"
                " entropy: a lower bound for any model",
            )
        screen.print(grid)
        _show_text(text, "first document" if len(documents) > 1 else "beginning", screen)


def _show_text(text: str, title: str, screen: Console) -> None:
    """Print the beginning of a text in a box."""
    screen.print(boxed(excerpt(text, SAMPLE_CHARACTERS), title, screen.width))


def _show_shards(folder: str, screen: Console, as_json: bool = False) -> None:
    """Print statistics of a folder of shards from its index, and the beginning of its text."""
    import numpy as np

    from llm_scratch.data.shards import open_shards
    from llm_scratch.tokenizers import load_tokenizer

    row, index = open_shards(folder)
    ids = np.asarray(row[1 : SAMPLE_CHARACTERS + 1])
    ends = np.flatnonzero(ids == index.eot)
    text = load_tokenizer(expand_user(folder)).decode(
        ids[: ends[0] if len(ends) else None].tolist()
    )
    if as_json:
        print_json(shards_json(f"shards:{folder}", index, text[:SAMPLE_CHARACTERS]))
        return
    grid = table("", "")
    grid.show_header = False
    grid.columns[1].justify = "left"
    done = index.done
    for label, value in (
        ("source", f"{index.source['name']}"),
        (
            "documents",
            f"{done.documents:,}" + (f", {done.empty:,} empty skipped" if done.empty else ""),
        ),
        ("bytes", f"{done.text_bytes:,}"),
        ("tokens", f"{index.tokens:,}, {done.text_bytes / index.tokens:.2f} bytes each"),
        ("tokenizer", f"{index.settings['tokenizer']}, {index.n_vocab:,} tokens"),
        (
            "shards",
            f"{len(index.shards)} of {index.settings['shard_tokens']:,} tokens as {index.dtype}",
        ),
    ):
        grid.add_row(label, sanitize(value))
    screen.print(grid)
    _show_text(text, "first document" if done.documents > 1 else "beginning", screen)


def story_entropy_floor(n: int) -> float:
    """Bits per byte of the first `n` stories under the grammar that generates them."""
    from llm_scratch.data.stories import generate_story

    stories = [generate_story(seed) for seed in range(n)]
    return sum(story.bits for story in stories) / sum(len(story.text.encode()) for story in stories)
