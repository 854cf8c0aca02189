"""Read a source of any size in chunks of about a megabyte, each of which one process tokenizes.

A chunk is a few spans of files, which the worker reads itself, or documents in memory. The same
source always gives the same chunks, so interrupted work resumes by chunk number. A long text is
split where no token can cross: before a single space or after a single line end, between two
non-blank characters, the second not a slash.
Tests: tests/data/test_readers.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from llm_scratch.data.plain_text import decode_text, lines_before, wide_encoding, with_line_feeds
from llm_scratch.data.sources import (
    SOURCES,
    expand_pattern,
    json_text,
    read,
    read_bytes,
    text_files,
)
from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.formatting import format_bytes
from llm_scratch.storage import download
from llm_scratch.storage.user_folders import expand_user, set_library_folders

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20  # of a .jsonl file: a document is held in memory
ROWS_PER_READ = 32  # of a table
OPEN_FILE_BYTES = 1000  # cost of opening a file, as bytes read in the same time
_SOLID = r"[^\s\udc80-\udcff]"  # neither blank nor a byte of a character split by the window
# o200k_base joins marks, line ends and the slashes after them: ".\n/" is one piece
_CUT = re.compile(rf"(?<={_SOLID})(?:(?= {_SOLID})|\n(?!/)(?={_SOLID}))")
# where line ends are not \n yet
_CUT_IN_FILE = re.compile(rf"(?<={_SOLID})(?:(?= {_SOLID})|(?:\r\n?|\n)(?!/)(?={_SOLID}))")


@dataclass(frozen=True)
class FileSpan:
    """The bytes of a file from `begin` to `end`; `field` is the text's key in a .jsonl line."""

    path: Path
    begin: int
    end: int
    field: str
    whole: bool = False
    """whether all its documents end in this span"""

    @property
    def size(self) -> int:
        """Bytes of the source."""
        return self.end - self.begin

    def texts(self) -> Iterator[tuple[bool, str]]:
        """Read the span: (True, text) at the start of a document, (False, text) for a continuation.

        Raises:
            UserError: not text, or not JSON; names the position (code 3).
        """
        data = read_bytes(self.path, self.begin, self.end)
        if len(data) < self.size:
            raise UserError(
                f"{self.path} was truncated while it was read;"
                " leave it unchanged and start over with --fresh",
                DATA,
            )
        text = decode_text(self.path, data, self.begin)
        if self.path.suffix != ".jsonl":
            yield self.begin == 0, text
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield True, json_text(self.path, number, line, self.field)
                except UserError:  # the line's number in the file is counted only for an error
                    first_line = lines_before(self.path, self.begin)
                    json_text(self.path, number + first_line, line, self.field)


@dataclass(frozen=True)
class Texts:
    """Documents in memory; `size` is their share of the source, in bytes."""

    documents: tuple[str, ...]
    size: int
    whole = True

    def texts(self) -> Iterator[tuple[bool, str]]:
        """As `FileSpan.texts`."""
        return ((True, text) for text in self.documents)


Part = FileSpan | Texts
Chunk = tuple[Part, ...]


@dataclass(frozen=True)
class Source:
    """An opened source: `metadata` identifies it, `size` is in bytes, `parts()` iterates."""

    metadata: dict[str, Any]
    size: int
    parts: Callable[[], Iterator[Part]]

    def chunks(self) -> Iterator[Chunk]:
        """Iterate over the source in chunks."""
        chunk: list[Part] = []
        size = 0
        for part in self.parts():
            chunk.append(part)
            size += part.size + OPEN_FILE_BYTES
            if size >= CHUNK_BYTES:
                yield tuple(chunk)
                chunk = []
                size = 0
        if chunk:
            yield tuple(chunk)

    def texts(self) -> Iterator[str]:
        """Iterate over the source in texts: documents, or parts of long ones."""
        return (text for part in self.parts() for _, text in part.texts())


def open_source(name: str, field: str = "text") -> Source:
    """Open a source by name or path.

    Args:
        name: a source of `sources.read`, such as "file:books/*.txt"; "hf:NAME"; or a path of a file
            or folder.
        field: key or column of the text in .jsonl files and tables.
    Raises:
        UserError: unknown source, folder without text, or missing library (code 2 or 3).
    """
    kind, _, argument = name.partition(":")
    if kind == "hf":
        return _from_hub(name, argument, field)
    if kind == "file" or (kind not in SOURCES and expand_user(name).exists()):
        paths: list[Path] = []
        for path in expand_pattern(argument if kind == "file" else name):
            paths += text_files(path, tables=True) if path.is_dir() else [path]
        return _from_files(name, paths, field)
    documents = read(name)
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in documents]
    metadata = {
        "name": name,
        "documents": len(documents),
        "bytes": sum(sizes),
        "sha256": _fingerprint(documents),
    }

    def parts() -> Iterator[Part]:
        return (Texts((text,), size) for text, size in zip(documents, sizes))

    return Source(metadata, sum(sizes), parts)


def _fingerprint(lines: Iterable[str]) -> str:
    """SHA-256 over lines."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode("utf-8", "surrogatepass") + b"\n")  # file names can be invalid UTF-8
    return sha.hexdigest()


def _from_files(name: str, paths: list[Path], field: str) -> Source:
    """Open text, .jsonl and .parquet files as one source."""
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError as e:
        raise UserError(
            f"cannot read {e.filename}: {e.strerror}; expected a text file, .jsonl or .parquet",
            DATA,
        ) from e
    metadata = {
        "name": name,
        "files": len(paths),
        "bytes": sum(sizes),
        "sha256": _fingerprint(f"{path.name} {size}" for path, size in zip(paths, sizes)),
    }

    def parts() -> Iterator[Part]:
        for path, size in zip(paths, sizes):
            if path.suffix == ".parquet":
                yield from _table(path, size, field)
            else:
                yield from _file_spans(path, size, field)

    return Source(metadata, sum(sizes), parts)


def _file_spans(path: Path, size: int, field: str) -> Iterator[FileSpan]:
    """Split a file into spans of about a chunk; a UTF-16 or UTF-32 file is a single span."""
    is_jsonl = path.suffix == ".jsonl"
    after = _after_line if is_jsonl else _after_word
    begin = 0
    if size > CHUNK_BYTES and wide_encoding(read_bytes(path, 0, 4)):
        yield FileSpan(path, 0, size, field, whole=True)
        return
    while begin < size:
        end = size
        if begin + CHUNK_BYTES < size:
            with path.open("rb") as file:
                end = min(size, after(file, begin + CHUNK_BYTES))
        whole = is_jsonl or (begin == 0 and end == size)
        yield FileSpan(path, begin, end, field, whole)
        begin = end
    if not size:
        yield FileSpan(path, 0, 0, field, whole=True)


def _after_word(file: BinaryIO, offset: int) -> int:
    """First offset from `offset` on where splitting keeps the tokens, or else the characters."""
    for window in (CHUNK_BYTES >> 8, CHUNK_BYTES):
        file.seek(offset)
        data = file.read(window)
        cut = _CUT_IN_FILE.search(data.decode("utf-8", "surrogateescape"))
        if cut:
            return offset + len(cut.string[: cut.end()].encode("utf-8", "surrogateescape"))
    starts = (i for i, byte in enumerate(data) if byte & 0xC0 != 0x80 and byte != 0x0A)
    return offset + next(starts, len(data))


def _after_line(file: BinaryIO, offset: int) -> int:
    """First offset after `offset` where a line begins."""
    file.seek(offset)
    read_so_far = 0
    while data := file.read(CHUNK_BYTES):
        if (end := data.find(b"\n")) >= 0:
            return offset + read_so_far + end + 1
        read_so_far += len(data)
        if read_so_far > MAX_LINE_BYTES:
            line = lines_before(Path(file.name), offset) + 1
            raise UserError(
                f"{file.name} line {line} is longer than {format_bytes(MAX_LINE_BYTES)},"
                " the most that is held in memory; expected one document per line, so split it",
                DATA,
            )
    return offset + read_so_far


def split_text(text: str) -> Iterator[str]:
    """Split a text into pieces of about a chunk, where `_after_word` would."""
    begin = 0
    while begin < len(text):
        end = len(text)
        if begin + 2 * CHUNK_BYTES < end:
            cut = _CUT.search(text, begin + CHUNK_BYTES, begin + 2 * CHUNK_BYTES)
            end = cut.end() if cut else begin + CHUNK_BYTES
        yield text[begin:end]
        begin = end


def _table(path: Path, size: int, field: str) -> Iterator[Texts]:
    """Read the documents of a .parquet file, a few rows at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise UserError(f"{path} needs the library pyarrow: {install_command('data')}") from e
    try:
        with parquet.ParquetFile(path) as file:
            _check_column(path, field, file.schema_arrow.names)
            n_rows = file.metadata.num_rows
            for batch in file.iter_batches(ROWS_PER_READ, columns=[field], use_threads=False):
                n_bytes = size * batch.num_rows // n_rows
                yield _rows(path, field, batch.column(0).to_pylist(), n_bytes)
    except (pyarrow.ArrowException, OSError) as e:
        raise UserError(
            f"{path} is not a readable .parquet file ({describe_error(e)}); download it again", DATA
        ) from e


def _from_hub(where: str, argument: str, field: str) -> Source:
    """Open the split "train" of a Hugging Face dataset: `hf:NAME` or `hf:NAME:CONFIG`."""
    set_library_folders()  # before the import, which without a home folder creates one named "~"
    try:
        import datasets
    except ImportError as e:
        raise UserError(f"{where} needs the library datasets: {install_command('data')}") from e
    name, _, config = argument.partition(":")
    cause = download.why_cache_only(datasets.config.HF_ENDPOINT)
    try:
        with _offline(datasets) if cause else nullcontext():
            rows = datasets.load_dataset(name, config or None, split="train")
    except Exception as e:  # the library raises many unrelated types
        reason = f"{cause} and it is not in the hub's cache" if cause else describe_error(e)
        raise UserError(
            f"cannot load the dataset {argument!r}: {reason};"
            " expected hf:NAME or hf:NAME:CONFIG"
            + (f". {download.WITHOUT_NETWORK}" if cause else ""),
            DATA,
        ) from e
    _check_column(where, field, rows.column_names)
    rows = rows.select_columns([field])
    metadata = {
        "name": where,
        "documents": len(rows),
        "bytes": rows.data.nbytes,
        "sha256": _fingerprint([name, config, str(rows.info.version)]),
    }

    def parts() -> Iterator[Part]:
        for first in range(0, len(rows), ROWS_PER_READ):
            texts = rows[first : first + ROWS_PER_READ][field]
            yield _rows(where, field, texts, rows.data.nbytes * len(texts) // len(rows))

    return Source(metadata, rows.data.nbytes, parts)


@contextmanager
def _offline(datasets: ModuleType) -> Iterator[None]:
    """Let the library read its cache only; it has no argument for that."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _check_column(where: Path | str, field: str, names: list[str]) -> None:
    if field not in names:
        raise UserError(
            f"{where} has no column {field!r}; choose one with --field: {', '.join(names)}", DATA
        )


def _rows(where: Path | str, field: str, values: list[Any], size: int) -> Texts:
    """Turn rows of a table into documents; a null is an empty document."""
    non_text = next((value for value in values if not isinstance(value, str | None)), None)
    if non_text is not None:
        raise UserError(
            f"the column {field!r} of {where} holds {type(non_text).__name__},"
            f" such as {str(non_text)[:40]!r}; expected strings",
            DATA,
        )
    return Texts(tuple(with_line_feeds(value or "") for value in values), size)
