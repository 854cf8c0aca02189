"""Where text comes from: a name, maybe with an argument after a colon, becomes a list of documents.

    verdict          a short story by Edith Wharton (1908), the notebooks' text          downloaded once
    shakespeare      40,000 lines of his plays                                           downloaded once
    python-docs      the language reference that every Python carries                    on this machine
    stories:20000    that many stories of a grammar whose entropy is known               made here
    file:books/      your own text: one document a file, or a line of a .jsonl           your files
    shards:FOLDER    tokens that `llm-scratch data prepare` made, for texts of any size  your files

How the bytes of a file become text: `plain_text.py`.
Yours: write `f(argument: str) -> list[str]`, then `SOURCES["mine"] = f` and train with `--data.source mine`.
Proof: tests/data/test_sources.py. Lesson: lessons/step1_text.py.
"""

from __future__ import annotations

import glob
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llm_scratch.data.plain_text import begins_as_text, decode_text, is_blank, with_line_feeds
from llm_scratch.data.shards import open_shards, positions_of
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.storage.download import FILES, cache_folder, fetch
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import load_tokenizer

PEEK_BYTES = 1 << 16  # read of a file in a folder to see whether it is text
MAX_NAME = 60  # characters of a source in a warning: a list of paths can be long


def read(source: str) -> list[str]:
    """The documents of a source, each one text; empty ones are left out, and a warning counts them.

    Args:
        source: a name in `SOURCES`, with its argument after a colon: "verdict", "stories:20000", "file:books/*.txt".
    Raises:
        UserError: no such source; no such file; nothing in it, or no text (code 3); no network for what must be downloaded (code 3).
    """
    name, _, argument = source.partition(":")
    if name not in SOURCES:
        if Path(source).exists():
            raise UserError(f"unknown source {source!r}; a file is written 'file:{source}'")
        raise unknown("source", name, SOURCES, extensible=True)
    documents = SOURCES[name](argument)
    kept = [text for text in documents if not is_blank(text)]
    if not kept:
        raise UserError(f"source {source!r} holds no text; expected at least one word", DATA)
    if n_empty := len(documents) - len(kept):
        where = source if len(source) <= MAX_NAME else f"{source[:MAX_NAME]}..."
        warnings.warn(f"{where}: {n_empty:,} of {len(documents):,} documents are empty and are left out", stacklevel=2)
    return kept


def _downloaded(name: str, file: str, about: str) -> Callable[[str], list[str]]:
    """A source that is one pinned file of the table in `llm_scratch.storage.download`."""

    def source(argument: str) -> list[str]:
        _no_argument(name, argument)
        return [fetch(file, *FILES[file]).read_text(encoding="utf-8")]

    source.__doc__ = about
    return source


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise UserError(f"source {name!r} takes nothing after a colon; got {argument!r}")


def stories(argument: str) -> list[str]:
    """Made-up children's stories, seeds 0 to N - 1; the argument is N, 20000 unless given."""
    from llm_scratch.data.stories import HELD_OUT, generate_story

    if not re.fullmatch("[0-9]{0,10}", argument) or not 0 < int(argument or 20_000) <= HELD_OUT:
        raise UserError(f"stories:{argument} does not say how many stories; expected a number up to {HELD_OUT}, e.g. stories:20000")
    return [generate_story(seed).text for seed in range(int(argument or 20_000))]


def python_docs(argument: str) -> list[str]:
    """The topics of Python's `help()`: language reference prose, about 300 kB, which differs a little from version to version.

    Underlines, tables and grammar rules are left out, and so is a topic that longer ones repeat word for word.
    """
    _no_argument("python-docs", argument)
    try:
        from pydoc_data.topics import topics
    except ImportError as e:
        raise UserError("this Python comes without pydoc_data; install its standard library in full or choose another source", DATA) from e
    said: set[str] = set()
    documents = {}
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = _prose(topics[name])
        if sum(len(p) for p in paragraphs if p in said) <= sum(map(len, paragraphs)) / 2:
            documents[name] = "\n\n".join(paragraphs)
        said.update(paragraphs)
    return [documents[name] for name in sorted(documents)]


def _prose(topic: str) -> list[str]:
    """The paragraphs of a topic that a person would read aloud."""
    ruled = re.compile(r"[ \t]*[-=*~^\"'.:]{3,}[ \t]*|[ \t]*[+|].*")  # an underline, or a line of a table
    lines = "\n".join("" if ruled.fullmatch(line) else line.rstrip() for line in topic.splitlines())
    paragraphs = (p.strip("\n") for p in re.split(r"\n{2,}", lines))
    return [p for p in paragraphs if p and "::=" not in p and not p.startswith("**Source code:**")]


def files(argument: str) -> list[str]:
    """Your own text: a file, a folder, a pattern like books/*.txt or books/**/*.txt (in the order of their names), or a list of these."""
    paths = [file for path in expand_pattern(argument) for file in (text_files(path) if path.is_dir() else [path])]
    documents = [document for path in paths for document in _documents(path)]
    if len(documents) == 1 and paths[0].suffix != ".jsonl" and is_blank(documents[0]):
        raise UserError(f"{paths[0]} is empty; expected text", DATA)
    return documents


def expand_pattern(argument: str) -> list[Path]:
    """The path, the files of the pattern, or the paths of the list that stand after `file:`.

    Args:
        argument: `book.txt`, `books/`, `books/*.txt`, or several of these as a JSON list: `["book.txt", "letters/"]`.

    A pattern leaves out what lies in run directories: a run's own log would otherwise be part of its text.

    Raises:
        UserError: there is no file of such a name (code 3).
    """
    if not argument:
        raise UserError("source 'file:' names no file; expected file:PATH or file:'books/*.txt'", DATA)
    if (several := path_list(argument)) is not None:
        return [path for part in several for path in expand_pattern(part)]
    paths = [expand_user(argument)]
    if not paths[0].exists() and glob.has_magic(argument):
        found = sorted(Path(p) for p in glob.glob(_as_pattern(paths[0]), recursive=True) if Path(p).is_file())
        is_run = {folder: is_run_directory(folder) for path in found for folder in path.absolute().parents}
        paths = [path for path in found if not any(is_run[folder] for folder in path.absolute().parents)]
        if not paths:
            left_out = f" (files of run directories are left out: {len(found):,})" if found else ""
            raise UserError(f"no file matches {argument!r}{left_out}; expected at least one, seen from {Path.cwd()}", DATA)
    return paths


def _as_pattern(path: Path) -> str:
    """A pattern in which folders that exist are taken literally, such as one named `texts [1]`."""
    literal = next((parent for parent in path.parents if parent.exists()), Path())
    rest = path.relative_to(literal)
    return str(Path(glob.escape(str(literal))) / rest)


def is_run_directory(folder: Path) -> bool:
    """Whether `llm-scratch train` or `import` made a folder; it has settings and checkpoints, or is about to have them."""
    return (folder / "config.yaml").is_file() and ((folder / "ckpt").is_dir() or (folder / "env.json").is_file())


def path_list(argument: str) -> list[str] | None:
    """The paths of a JSON list such as `["a.txt", "b.txt"]`; None for anything else, such as a pattern that begins with a bracket."""
    try:
        values = json.loads(argument) if argument.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, list) and values and all(type(v) is str and v for v in values) else None


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, in the order of their names; hidden ones are left out."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def text_files(folder: Path, tables: bool = False) -> list[Path]:
    """The files of a folder that hold text; others, such as a picture, are left out with a warning.

    Args:
        folder: files in its subfolders count too, hidden ones do not.
        tables: whether .parquet files count as well.
    Raises:
        UserError: none of its files holds text (code 3).
    """
    paths = files_in(folder)
    kept: list[Path] = []
    skipped: list[Path] = []
    for path in paths:
        is_data = path.suffix == ".jsonl" or (tables and path.suffix == ".parquet")
        text = is_data or begins_as_text(read_bytes(path, 0, PEEK_BYTES))
        (kept if text else skipped).append(path)
    if not kept:
        expected = "UTF-8 text, .jsonl or .parquet" if tables else "UTF-8 text or .jsonl"
        raise UserError(f"the folder {folder} holds no text files ({len(paths)} files in all); expected {expected}", DATA)
    if skipped:
        names = ", ".join(str(path.relative_to(folder)) for path in skipped[:3]) + ", ..." * (len(skipped) > 3)
        warnings.warn(f"{folder}: {len(skipped)} of {len(paths)} files are not text and are left out: {names}", stacklevel=2)
    return kept


def _documents(path: Path) -> list[str]:
    """One file's text, or the "text" of each line of a .jsonl file."""
    text = decode_text(path, read_bytes(path))
    if path.suffix != ".jsonl":
        return [text]
    return [json_text(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_bytes(path: Path, begin: int = 0, end: int | None = None) -> bytes:
    """The bytes of a file, or those from `begin` to `end`.

    Raises:
        UserError: it cannot be read (code 3).
    """
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read() if end is None else file.read(end - begin)
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}; expected a text file", DATA) from e


def json_text(path: Path, number: int, line: str | bytes, field: str = "text") -> str:
    """The text in one line of a .jsonl file, which stands under `field` in its object.

    Raises:
        UserError: the line is no such object; names the file and the line (code 3).
    """
    names = ""
    try:
        values = json.loads(line)
        if isinstance(values, dict) and field not in values:
            names = f"; its fields are {', '.join(map(repr, list(values)[:6]))}"
        text = values[field]
        text.encode("utf-8")  # JSON can spell half a surrogate pair, which is no text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        wanted = f'{path} line {number} is not a JSON object with a "{field}"'
        raise UserError(f'{wanted}{names}; expected {{"{field}": "..."}}', DATA) from e
    return with_line_feeds(text)


def shards(argument: str) -> list[str]:
    """Tokens that `llm-scratch data prepare` made of a text of any size.

    Here they become documents again, all in memory; training takes the tokens as they are, and reads only what it needs.
    """
    tokens, index = open_shards(argument)
    tokenizer = load_tokenizer(expand_user(argument))
    ends = positions_of(tokens, index.eot)
    return [tokenizer.decode(tokens[np.arange(begin + 1, end)].tolist()) for begin, end in zip(ends, ends[1:])]


DOWNLOADED = {"verdict": "the-verdict.txt", "shakespeare": "tinyshakespeare.txt"}
"""The sources that are one file of `llm_scratch.storage.download.FILES`."""


def on_this_machine(name: str) -> Path | None:
    """Where the file of a downloaded source lies already, judged by its size; None if `read` would have to download it."""
    folders = [expand_user(given)] if (given := os.environ.get("LLM_SCRATCH_DATA")) else []
    paths = [folder / DOWNLOADED[name] for folder in [*folders, cache_folder()]]
    return next((path for path in paths if path.is_file() and path.stat().st_size == FILES[path.name].size), None)


SOURCES: dict[str, Callable[[str], list[str]]] = {
    "verdict": _downloaded("verdict", DOWNLOADED["verdict"], "A short story by Edith Wharton (1908), the notebooks' text."),
    "shakespeare": _downloaded("shakespeare", DOWNLOADED["shakespeare"], "40,000 lines of Shakespeare's plays."),
    "python-docs": python_docs,
    "stories": stories,
    "file": files,
    "shards": shards,
}
