"""Read a text source: "NAME" or "NAME:ARGUMENT" becomes a list of documents.

    verdict          a short story by Edith Wharton (1908), the notebooks' text      downloaded once
    shakespeare      40,000 lines of his plays                                       downloaded once
    python-docs      the language reference that comes with Python                   installed
    stories:20000    generated stories, N of them, from a grammar of known entropy   generated
    file:books/      your text: one document per file, or per line of a .jsonl       your files
    shards:FOLDER    token shards made by `llm-scratch data prepare`, of any size    your files

How the bytes of a file are decoded: `plain_text.py`.
Your own: write `f(argument: str) -> list[str]`, then `SOURCES["mine"] = f` and train with
`--data.source mine`.
Tests: tests/data/test_sources.py. Lesson: lessons/step1_text.py.
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

PEEK_BYTES = 1 << 16  # read to detect whether a file is text
MAX_NAME = 60  # characters of a source shown in a warning: a list of paths can be long


def read(source: str) -> list[str]:
    """Read the documents of a source. Blank documents are left out with a warning.

    Args:
        source: a name in `SOURCES` and its argument:
            "verdict", "stories:20000", "file:books/*.txt".
    Raises:
        UserError: unknown source; file missing,
            empty or not text (code 3); download failed (code 3).
    """
    name, _, argument = source.partition(":")
    if name not in SOURCES:
        if Path(source).exists():
            kind = "folder" if Path(source).is_dir() else "file"
            raise UserError(f"unknown source {source!r}; for the {kind} use 'file:{source}'")
        raise unknown("source", name, SOURCES, extensible=True)
    documents = SOURCES[name](argument)
    kept = [text for text in documents if not is_blank(text)]
    if not kept:
        raise UserError(f"source {source!r} holds no text; expected at least one word", DATA)
    if n_empty := len(documents) - len(kept):
        where = source if len(source) <= MAX_NAME else f"{source[:MAX_NAME]}..."
        warnings.warn(
            f"{where}: {n_empty:,} of {len(documents):,} documents are empty and are left out",
            stacklevel=2,
        )
    return kept


def _downloaded(name: str, file: str, doc: str) -> Callable[[str], list[str]]:
    """Make a source from one pinned file of `llm_scratch.storage.download.FILES`."""

    def source(argument: str) -> list[str]:
        _no_argument(name, argument)
        return [fetch(file, *FILES[file]).read_text(encoding="utf-8")]

    source.__doc__ = doc
    return source


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise UserError(f"source {name!r} takes no argument; remove {':' + argument!r}")


def stories(argument: str) -> list[str]:
    """Generated children's stories, seeds 0 to N - 1; the argument is N (default: 20000)."""
    from llm_scratch.data.stories import HELD_OUT, generate_story

    if not re.fullmatch("[0-9]{0,10}", argument) or not 0 < int(argument or 20_000) <= HELD_OUT:
        raise UserError(
            f"stories:{argument}: not a number of stories;"
            f" expected 1 to {HELD_OUT}, e.g. stories:20000"
        )
    return [generate_story(seed).text for seed in range(int(argument or 20_000))]


def python_docs(argument: str) -> list[str]:
    """The topics of Python's `help()`: language reference prose, about 300 kB, varying by version.

    Underlines, tables and grammar rules are left out, and so are topics that longer ones repeat.
    """
    _no_argument("python-docs", argument)
    try:
        from pydoc_data.topics import topics
    except ImportError as e:
        raise UserError(
            "this Python has no pydoc_data;"
            " install its full standard library or use another source",
            DATA,
        ) from e
    seen: set[str] = set()
    documents = {}
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = _prose(topics[name])
        if sum(len(p) for p in paragraphs if p in seen) <= sum(map(len, paragraphs)) / 2:
            documents[name] = "\n\n".join(paragraphs)
        seen.update(paragraphs)
    return [documents[name] for name in sorted(documents)]


def _prose(topic: str) -> list[str]:
    """The prose paragraphs of a topic, without tables, underlines and grammar rules."""
    markup = re.compile(r"[ \t]*[-=*~^\"'.:]{3,}[ \t]*|[ \t]*[+|].*")  # underlines, table lines
    lines = "\n".join(
        "" if markup.fullmatch(line) else line.rstrip() for line in topic.splitlines()
    )
    paragraphs = (p.strip("\n") for p in re.split(r"\n{2,}", lines))
    return [p for p in paragraphs if p and "::=" not in p and not p.startswith("**Source code:**")]


def files(argument: str) -> list[str]:
    """Your own text: a file, a folder, a pattern like books/*.txt or books/**/*.txt, or a list.

    The files of a folder or pattern are sorted by name.
    """
    paths: list[Path] = []
    for path in expand_pattern(argument):
        paths += text_files(path) if path.is_dir() else [path]
    documents = [document for path in paths for document in _documents(path)]
    if len(documents) == 1 and paths[0].suffix != ".jsonl" and is_blank(documents[0]):
        raise UserError(f"{paths[0]} is empty; expected text", DATA)
    return documents


def expand_pattern(argument: str) -> list[Path]:
    """Expand the argument of `file:` to paths of files and folders.

    A pattern skips files in run directories: a run's own log would otherwise be part of its text.

    Args:
        argument: `book.txt`, `books/`, `books/*.txt`, or several of these as a JSON list:
            `["book.txt", "letters/"]`.
    Raises:
        UserError: no file matches (code 3).
    """
    if not argument:
        raise UserError(
            "source 'file:' has no path; expected file:PATH or file:'books/*.txt'", DATA
        )
    arguments = path_list(argument)
    if arguments is not None:
        return [path for part in arguments for path in expand_pattern(part)]
    path = expand_user(argument)
    if path.exists() or not glob.has_magic(argument):
        return [path]
    matches = map(Path, glob.glob(_as_pattern(path), recursive=True))
    candidates = sorted(match for match in matches if match.is_file())
    folders = {folder for match in candidates for folder in match.absolute().parents}
    runs = {folder for folder in folders if is_run_directory(folder)}
    paths = [match for match in candidates if runs.isdisjoint(match.absolute().parents)]
    if not paths:
        n_skipped = len(candidates)
        skipped = f" (files of run directories are left out: {n_skipped:,})" if n_skipped else ""
        raise UserError(
            f"no file matches {argument!r}{skipped};"
            f" expected at least one, relative to {Path.cwd()}",
            DATA,
        )
    return paths


def _as_pattern(path: Path) -> str:
    """Escape the existing folders of a pattern, such as one named `texts [1]`."""
    literal = next((parent for parent in path.parents if parent.exists()), Path())
    rest = path.relative_to(literal)
    return str(Path(glob.escape(str(literal))) / rest)


def is_run_directory(folder: Path) -> bool:
    """Whether a folder is a run of `llm-scratch train` or `import`, even without a checkpoint."""
    has_run_files = (folder / "ckpt").is_dir() or (folder / "env.json").is_file()
    return (folder / "config.yaml").is_file() and has_run_files


def path_list(argument: str) -> list[str] | None:
    """Parse a JSON list of paths such as `["a.txt", "b.txt"]`; None for other text: `[ab].txt`."""
    try:
        values = json.loads(argument) if argument.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(values, list) and values and all(type(v) is str and v for v in values)
    return values if is_list else None


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders, sorted by name, without hidden ones."""

    def is_hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_hidden(path))


def text_files(folder: Path, tables: bool = False) -> list[Path]:
    """The text files of a folder and its subfolders; other files, such as images, cause a warning.

    Args:
        folder: the folder; hidden files are ignored.
        tables: whether to include .parquet files.
    Raises:
        UserError: the folder has no text files (code 3).
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
        raise UserError(
            f"the folder {folder} holds no text files ({len(paths)} files in all);"
            f" expected {expected}",
            DATA,
        )
    if skipped:
        names = ", ".join(str(path.relative_to(folder)) for path in skipped[:3]) + ", ..." * (
            len(skipped) > 3
        )
        warnings.warn(
            f"{folder}: {len(skipped)} of {len(paths)} files are not text"
            f" and are left out: {names}",
            stacklevel=2,
        )
    return kept


def _documents(path: Path) -> list[str]:
    """Read the documents of a file: its text, or the "text" of each line of a .jsonl file."""
    text = decode_text(path, read_bytes(path))
    if path.suffix != ".jsonl":
        return [text]
    lines = enumerate(text.split("\n"), 1)
    return [json_text(path, number, line) for number, line in lines if line.strip()]


def read_bytes(path: Path, begin: int = 0, end: int | None = None) -> bytes:
    """Read a file, or its bytes from `begin` to `end`.

    Raises:
        UserError: the file cannot be read (code 3).
    """
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read() if end is None else file.read(end - begin)
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}; expected a text file", DATA) from e


def json_text(path: Path, number: int, line: str | bytes, field: str = "text") -> str:
    """Parse one line of a .jsonl file and return the text under the key `field`.

    Raises:
        UserError: not a JSON object with such a text; names file and line (code 3).
    """
    names = ""
    try:
        values = json.loads(line)
        if isinstance(values, dict) and field not in values:
            names = f"; its fields are {', '.join(map(repr, list(values)[:6]))}"
        text = values[field]
        text.encode("utf-8")  # fails on half a surrogate pair, which JSON can spell
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        problem = f'{path} line {number} is not a JSON object with a "{field}"'
        raise UserError(f'{problem}{names}; expected {{"{field}": "..."}}', DATA) from e
    return with_line_feeds(text)


def shards(argument: str) -> list[str]:
    """Token shards made by `llm-scratch data prepare`, decoded into documents, all in memory.

    Training does not call this: it memory-maps the tokens.
    """
    tokens, index = open_shards(argument)
    tokenizer = load_tokenizer(expand_user(argument))
    ends = positions_of(tokens, index.eot)
    return [
        tokenizer.decode(tokens[np.arange(begin + 1, end)].tolist())
        for begin, end in zip(ends, ends[1:])
    ]


DOWNLOADED = {"verdict": "the-verdict.txt", "shakespeare": "tinyshakespeare.txt"}
"""The sources that are one file of `llm_scratch.storage.download.FILES`."""


def on_this_machine(name: str) -> Path | None:
    """Path of the local copy of a downloaded source, of the right size; None without one."""
    folders = [cache_folder()]
    if data_folder := os.environ.get("LLM_SCRATCH_DATA"):
        folders.insert(0, expand_user(data_folder))
    for folder in folders:
        path = folder / DOWNLOADED[name]
        if path.is_file() and path.stat().st_size == FILES[path.name].size:
            return path
    return None


SOURCES: dict[str, Callable[[str], list[str]]] = {
    "verdict": _downloaded(
        "verdict",
        DOWNLOADED["verdict"],
        "A short story by Edith Wharton (1908), the notebooks' text.",
    ),
    "shakespeare": _downloaded(
        "shakespeare", DOWNLOADED["shakespeare"], "40,000 lines of Shakespeare's plays."
    ),
    "python-docs": python_docs,
    "stories": stories,
    "file": files,
    "shards": shards,
}
"""Name -> function that returns the documents; `stories` of "stories:500" gets "500"."""
