"""A source of any size as a row of portions, each a megabyte or so of text that one process turns into tokens.

A portion is a few stretches of files, which that process reads itself, or texts that are in hand. The same source always gives the
same portions, so work that was stopped goes on by their number. A long text is cut where no token can reach across: before a single
space or after a single line end, between two characters that are not blank.
Proof: tests/data/test_readers.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llm_scratch.data.plain_text import decode_text, lines_before, wide_encoding, with_line_feeds
from llm_scratch.data.sources import SOURCES, expand_pattern, json_text, read, read_bytes, text_files
from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.storage.user_folders import expand_user

CHUNK_BYTES = 1 << 20  # bytes
LONGEST = 64 << 20  # bytes in a line of a .jsonl file: a document is held in memory
ROWS = 32  # of a table, read together
SNIFF_BYTES = 1000  # bytes that could be read in the time that it takes to open a file
_SOLID = r"[^\s\udc80-\udcff]"  # no blank, and no byte of a character that a cut has halved
_CUT = re.compile(rf"(?<={_SOLID})(?:(?= {_SOLID})|\n(?={_SOLID}))")
_CUT_IN_FILE = re.compile(rf"(?<={_SOLID})(?:(?= {_SOLID})|(?:\r\n?|\n)(?={_SOLID}))")  # where line ends are not \n yet


@dataclass(frozen=True)
class FileSpan:
    """The bytes of a file from `begin` to `end`; `field` is where the text stands in a line of a .jsonl file."""

    path: Path
    begin: int
    end: int
    field: str
    whole: bool = False
    """whether no text of it continues in another stretch"""

    @property
    def size(self) -> int:
        """In bytes of the source."""
        return self.end - self.begin

    def texts(self) -> Iterator[tuple[bool, str]]:
        """Its texts, and whether each begins a document; else it goes on with the one before.

        Raises:
            UserError: not text, or not JSON; names the place (code 3).
        """
        data = read_bytes(self.path, self.begin, self.end)
        if len(data) < self.size:
            raise UserError(f"{self.path} has become shorter while it was read; leave it as it is, and start again with --fresh", DATA)
        text = decode_text(self.path, data, self.begin)
        if self.path.suffix != ".jsonl":
            yield self.begin == 0, text
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield True, json_text(self.path, number, line, self.field)
                except UserError:  # the line's number in the file is counted only for an error
                    json_text(self.path, number + lines_before(self.path, self.begin), line, self.field)


@dataclass(frozen=True)
class Texts:
    """Documents in hand; `size` is what they are of the source, in its bytes."""

    documents: tuple[str, ...]
    size: int
    whole = True

    def texts(self) -> Iterator[tuple[bool, str]]:
        """As `Stretch.texts`."""
        return ((True, text) for text in self.documents)


Part = FileSpan | Texts
Chunk = tuple[Part, ...]


@dataclass(frozen=True)
class Source:
    """A source that was found: `facts` tell it from another, `size` is in bytes, `parts` reads on."""

    facts: dict[str, Any]
    size: int
    parts: Callable[[], Iterator[Part]]

    def portions(self) -> Iterator[Chunk]:
        """All of it, in portions."""
        held: list[Part] = []
        size = 0
        for part in self.parts():
            held.append(part)
            size += part.size + SNIFF_BYTES
            if size >= CHUNK_BYTES:
                yield tuple(held)
                held, size = [], 0
        if held:
            yield tuple(held)

    def texts(self) -> Iterator[str]:
        """All of it, in texts that are documents or stretches of one."""
        return (text for part in self.parts() for _, text in part.texts())


def open_source(name: str, field: str = "text") -> Source:
    """Find a source.

    Args:
        name: a name that `sources.read` knows, "file:books/*.txt" among them; "hf:NAME"; else the path of a file or a folder.
        field: where the text of a document stands in .jsonl files and tables.
    Raises:
        UserError: no such source; a folder without files; a library that is missing (code 2 or 3).
    """
    kind, _, argument = name.partition(":")
    if kind == "hf":
        return _from_hub(name, argument, field)
    if kind == "file" or (kind not in SOURCES and expand_user(name).exists()):
        found = expand_pattern(argument if kind == "file" else name)
        return _from_files(name, [f for path in found for f in (text_files(path, tables=True) if path.is_dir() else [path])], field)
    documents = read(name)
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in documents]
    facts = {"name": name, "documents": len(documents), "bytes": sum(sizes), "sha256": _fingerprint(documents)}
    return Source(facts, sum(sizes), lambda: (Texts((text,), size) for text, size in zip(documents, sizes)))


def _fingerprint(lines: Iterable[str]) -> str:
    """Changes when a line does."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode("utf-8", "surrogatepass") + b"\n")  # the name of a file need not be text
    return sha.hexdigest()


def _from_files(name: str, paths: list[Path], field: str) -> Source:
    """Texts, .jsonl and .parquet files, one after the other."""
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError as e:
        raise UserError(f"cannot read {e.filename}: {e.strerror}; expected a text file, .jsonl or .parquet", DATA) from e
    facts = {
        "name": name,
        "files": len(paths),
        "bytes": sum(sizes),
        "sha256": _fingerprint(f"{path.name} {size}" for path, size in zip(paths, sizes)),
    }

    def parts() -> Iterator[Part]:
        for path, size in zip(paths, sizes):
            yield from _table(path, size, field) if path.suffix == ".parquet" else _stretches(path, size, field)

    return Source(facts, sum(sizes), parts)


def _stretches(path: Path, size: int, field: str) -> Iterator[FileSpan]:
    """A file in stretches of about a portion; one that is not UTF-8 is a single stretch."""
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
        yield FileSpan(path, begin, end, field, whole=is_jsonl or (begin == 0 and end == size))
        begin = end
    if not size:
        yield FileSpan(path, 0, 0, field, whole=True)


def _after_word(file: BinaryIO, offset: int) -> int:
    """A place at or after `offset` where a text can be cut and keep its tokens; if none is near, between two characters."""
    for window in (CHUNK_BYTES >> 8, CHUNK_BYTES):
        file.seek(offset)
        data = file.read(window)
        if found := _CUT_IN_FILE.search(data.decode("utf-8", "surrogateescape")):
            return offset + len(found.string[: found.end()].encode("utf-8", "surrogateescape"))
    return offset + next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80 and byte != 0x0A), len(data))


def _after_line(file: BinaryIO, offset: int) -> int:
    """The first place after `offset` where a line begins."""
    file.seek(offset)
    read_so_far = 0
    while data := file.read(CHUNK_BYTES):
        if (end := data.find(b"\n")) >= 0:
            return offset + read_so_far + end + 1
        read_so_far += len(data)
        if read_so_far > LONGEST:
            line = lines_before(Path(file.name), offset) + 1
            raise UserError(
                f"{file.name} line {line} is longer than {LONGEST >> 20} MiB; expected a document a line, so split it: "
                "each is held in memory",
                DATA,
            )
    return offset + read_so_far


def split_text(text: str) -> Iterator[str]:
    """A text in pieces of about a portion, cut where `_after_word` would."""
    begin = 0
    while begin < len(text):
        end = len(text)
        if begin + 2 * CHUNK_BYTES < end:
            found = _CUT.search(text, begin + CHUNK_BYTES, begin + 2 * CHUNK_BYTES)
            end = found.end() if found else begin + CHUNK_BYTES
        yield text[begin:end]
        begin = end


def _table(path: Path, size: int, field: str) -> Iterator[Texts]:
    """The documents of a .parquet file, some rows at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise UserError(f"{path} needs the library pyarrow: {install_command('data')}") from e
    try:
        with parquet.ParquetFile(path) as file:
            _check_column(path, field, file.schema_arrow.names)
            n_rows = file.metadata.num_rows
            for batch in file.iter_batches(ROWS, columns=[field], use_threads=False):
                yield _rows(path, field, batch.column(0).to_pylist(), size * batch.num_rows // n_rows)
    except (pyarrow.ArrowException, OSError) as e:
        raise UserError(f"{path} is not a readable .parquet file ({describe_error(e)}); get it again", DATA) from e


def _from_hub(where: str, argument: str, field: str) -> Source:
    """The split "train" of a data set that the library `datasets` finds: `hf:NAME` or `hf:NAME:CONFIG`."""
    try:
        import datasets
    except ImportError as e:
        raise UserError(f"{where} needs the library datasets: {install_command('data')}") from e
    name, _, config = argument.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split="train")
    except Exception as e:  # the library's own errors differ by what is wrong
        raise UserError(f"cannot load the data set {argument!r}: {describe_error(e)}; expected hf:NAME or hf:NAME:CONFIG", DATA) from e
    _check_column(where, field, rows.column_names)
    rows = rows.select_columns([field])
    facts = {
        "name": where,
        "documents": len(rows),
        "bytes": rows.data.nbytes,
        "sha256": _fingerprint([name, config, str(rows.info.version)]),
    }

    def parts() -> Iterator[Part]:
        for first in range(0, len(rows), ROWS):
            texts = rows[first : first + ROWS][field]
            yield _rows(where, field, texts, rows.data.nbytes * len(texts) // len(rows))

    return Source(facts, rows.data.nbytes, parts)


def _check_column(where: Path | str, field: str, names: list[str]) -> None:
    if field not in names:
        raise UserError(f"{where} has no column {field!r}; its columns are {', '.join(names)}: name one with --field", DATA)


def _rows(where: Path | str, field: str, values: list[Any], size: int) -> Texts:
    """Rows of a table as documents; one without a value is an empty document."""
    odd = next((value for value in values if not isinstance(value, str | None)), None)
    if odd is not None:
        raise UserError(f"the column {field!r} of {where} holds {type(odd).__name__}, such as {str(odd)[:40]!r}; expected texts", DATA)
    return Texts(tuple(with_line_feeds(value or "") for value in values), size)
