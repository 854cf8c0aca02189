"""Tokenize a source into shards: in parallel, in bounded memory, resumable after any interruption.

Workers encode chunks of the source. This process concatenates the ids in the source's order and
splits them into shards. A shard is renamed into place once complete, and the index is written after
it. The output depends on the settings alone, not on the number of workers or interruptions.
Tests: tests/data/test_sharding.py.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.data.encoding import END, Encoded, encode_all
from llm_scratch.data.readers import CHUNK_BYTES, Source, open_source, split_text
from llm_scratch.data.shards import Shard, ShardIndex, ShardProgress, check_size, shard_sha256
from llm_scratch.errors import DATA, INTERRUPTED, UserError, unknown
from llm_scratch.storage import files
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.storage.worker_processes import check_main_guard
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, save_tokenizer
from llm_scratch.tokenizers.companion import CONFIG

MAX_SAMPLE_BYTES = 32 << 20  # of the text that a new bpe vocabulary is trained on

PrepareCallback = Callable[[ShardProgress, int], None]
"""Called after every chunk with the progress in the source and the number of tokens so far."""


def make_shards(
    source: str,
    folder: str | Path,
    tokenizer: str | Tokenizer = "gpt2",
    *,
    vocab_size: int | None = None,
    field: str = "text",
    shard_tokens: int = 100_000_000,
    workers: int = 1,
    run_first: str = "",
    on_start: Callable[[int, ShardIndex], None] = lambda size, index: None,
    on_progress: PrepareCallback = lambda done, tokens: None,
) -> ShardIndex:
    """Tokenize a source into a folder of token shards, or resume an interrupted preparation.

    Args:
        source, field: as in `readers.open_source`.
        folder: a new folder, or one with an interrupted preparation of the same settings.
        tokenizer: a name in `TOKENIZERS`, or a tokenizer. "bpe" is trained on the first half of the
            source, at most 32 MiB, so that validation text stays unseen; "chars" first reads the
            whole source to collect its characters.
        vocab_size: vocabulary size for "bpe".
        shard_tokens: ids per shard.
        workers: number of processes; the result does not depend on it.
        run_first: a Python file that each worker runs first, for example to add a tokenizer.
        on_start: called once with the size of the source in bytes and the index before the work.
        on_progress: called after every chunk.
    Returns:
        The index of the complete folder.
    Raises:
        UserError: bad text or a folder with other content (code 3);
            full disk (code 6); Ctrl-C (code 130).
    """
    check_main_guard()
    folder = expand_user(folder)
    _check_arguments(source, folder, shard_tokens, workers)
    text = open_source(source, field)
    settings = {
        "field": field,
        "tokenizer": _tokenizer_key(tokenizer),
        "vocab_size": vocab_size,
        "shard_tokens": shard_tokens,
    }
    index = _resume(folder, settings, text) or _new_index(folder, settings, text, tokenizer)
    on_start(text.size, index)
    if index.complete:
        return index
    remaining = islice(chain(text.chunks(), [END]), index.done.portions, None)
    workers = min(workers, max(1, text.size // CHUNK_BYTES))
    encoded = encode_all(remaining, folder, index.dtype, workers, run_first)
    try:
        return _write_shards(index, _TokenStream(encoded, index, on_progress), folder)
    except KeyboardInterrupt:
        kept = f"{ShardIndex.load(folder).tokens:,} tokens are kept in {folder}"
        raise UserError(
            f"stopped; {kept}; run the same command again to resume", INTERRUPTED
        ) from None
    finally:
        encoded.close()


def _check_arguments(source: str, folder: Path, shard_tokens: int, workers: int) -> None:
    """Check the numbers, and that the shards are not written into their own source."""
    if shard_tokens < 1 or workers < 1:
        raise UserError(
            f"shard_tokens={shard_tokens} and workers={workers} must both be at least 1"
        )
    path = expand_user(source.removeprefix("file:"))
    if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
        raise UserError(
            f"{folder} is inside its own source, {path}; choose another folder for the shards"
        )


def _tokenizer_key(tokenizer: str | Tokenizer) -> str:
    """The name of a tokenizer to train, or the hash of one that exists."""
    if isinstance(tokenizer, str):
        return tokenizer
    return f"sha256:{hashlib.sha256(_as_files(tokenizer)['tokenizer.json']).hexdigest()}"


def _resume(folder: Path, settings: dict[str, Any], source: Source) -> ShardIndex | None:
    """Load the index of an interrupted preparation, and remove partially written files.

    Returns None where the folder has none.

    Raises:
        UserError: the folder holds other shards or other files (code 3).
    """
    if not folder.exists():
        return None
    has_index = (folder / "index.json").exists()
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if path.suffix != ".part")
    else:
        others = [folder.name]
    if others and not has_index:
        raise UserError(
            f"{folder} holds other files, such as {others[0]!r}; choose a new or empty folder", DATA
        )
    for partial in folder.glob(".*.part"):
        files.filesystem.remove(partial)
    if not has_index:
        return None
    index = ShardIndex.load(folder)
    changed = [
        f"{key} was {index.settings.get(key)!r} and is now {value!r}"
        for key, value in settings.items()
        if index.settings.get(key) != value
    ]
    if {**index.source, "name": ""} != {**source.metadata, "name": ""}:
        name = index.source.get("name")
        n_bytes = index.source.get("bytes", 0)
        changed.append(f"source {name!r} had {n_bytes:,} bytes or other file names")
    if changed:
        raise UserError(
            f"{folder} holds other shards: {changed[0]};"
            " choose another folder, or --fresh to start over",
            DATA,
        )
    if not index.shards and not (folder / "tokenizer.json").exists():  # interrupted before it
        return None
    for shard in index.shards:
        check_size(folder / shard.file, shard.tokens * np.dtype(index.dtype).itemsize)
    if shard_sha256(folder / "tokenizer.json") != index.tokenizer_sha256:
        raise UserError(
            f"{folder}/tokenizer.json changed since the first shard; start over with --fresh", DATA
        )
    return index


def _new_index(
    folder: Path, settings: dict[str, Any], source: Source, tokenizer: str | Tokenizer
) -> ShardIndex:
    """Start a preparation: make the tokenizer, then write the index and the tokenizer's files."""
    if isinstance(tokenizer, str):
        tokenizer = _make_tokenizer(tokenizer, settings["vocab_size"], source)
    dtype = "uint16" if tokenizer.n_vocab <= 1 << 16 else "uint32"
    contents = _as_files(tokenizer)
    sha256 = hashlib.sha256(contents["tokenizer.json"]).hexdigest()
    index = ShardIndex(
        settings, source.metadata, dtype, tokenizer.n_vocab, tokenizer.eot_token, sha256
    )
    index.save(folder)
    for name, content in contents.items():
        files.atomic_write(folder / name, content)
    return index


def _make_tokenizer(name: str, vocab_size: int | None, source: Source) -> Tokenizer:
    """Make a tokenizer by name, trained on the source where it needs training."""
    if name not in TOKENIZERS:
        raise unknown("tokenizer", name, TOKENIZERS, extensible=True)
    if name == "words":
        raise UserError(
            "tokenizer 'words' loses the white space between words,"
            " so token shards cannot be decoded; use bpe, gpt2 or chars"
        )
    if name == "bpe":
        prefix = _read_prefix(source, min(MAX_SAMPLE_BYTES, source.size // 2))
        return TOKENIZERS[name](prefix, vocab_size)
    return TOKENIZERS[name](source.texts(), vocab_size)


def _read_prefix(source: Source, n_bytes: int) -> Iterator[str]:
    """The first `n_bytes` bytes of a source's text."""
    for text in chain.from_iterable(map(split_text, source.texts())):
        data = text.encode("utf-8", "replace")[:n_bytes]
        n_bytes -= len(data)
        yield data.decode("utf-8", "ignore")
        if n_bytes <= 0:
            return


def _as_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return the tokenizer's files by name; the last, tokenizer.json, marks them complete."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, folder)
        paths = (Path(folder) / name for name in (CONFIG, "tokenizer.json"))
        return {path.name: path.read_bytes() for path in paths if path.is_file()}


class _TokenStream:
    """The ids of all chunks as one stream, read shard by shard.

    Args:
        encoded: the chunks from `index.done.portions` on.
        index: its `done` is the position of the next shard.
        on_progress: called after every chunk.
    """

    def __init__(
        self, encoded: Generator[Encoded], index: ShardIndex, on_progress: PrepareCallback
    ) -> None:
        self.encoded = encoded
        self.on_progress = on_progress
        self.before = replace(index.done, skip=0)  # counts of the chunks before the current one
        self.tokens = index.tokens  # read so far
        self.current = next(encoded)
        self.at = index.done.skip  # ids of the current chunk already read

    @property
    def ended(self) -> bool:
        """Whether all ids are read."""
        return self.current.last and self.at == len(self.current.ids)

    @property
    def done(self) -> ShardProgress:
        """Position of the next shard."""
        return replace(self.before, skip=self.at)

    def read(self, n: int) -> Iterator[bytes]:
        """Read the next `n` ids, or all that are left, as little-endian bytes."""
        while n and not self.ended:
            if self.at == len(self.current.ids):
                self.before += self.current.progress
                self.on_progress(self.before, self.tokens)
                self.current = next(self.encoded)
                self.at = 0
            ids = self.current.ids[self.at : self.at + n]
            self.at += len(ids)
            self.tokens += len(ids)
            n -= len(ids)
            yield ids.astype(ids.dtype.newbyteorder("<")).tobytes()


def _write_shards(index: ShardIndex, stream: _TokenStream, folder: Path) -> ShardIndex:
    """Write a stream as shards; the index is saved after each."""
    while not index.complete:
        name = f"shard-{len(index.shards):05}.bin"
        sha = hashlib.sha256()
        before = stream.tokens
        with files.atomic_file(folder / name) as part:
            files.filesystem.write(part, _hashed(stream.read(index.settings["shard_tokens"]), sha))
        shard = Shard(name, stream.tokens - before, sha.hexdigest())
        if stream.ended and not stream.done.documents:
            raise UserError(
                f"source {index.source['name']!r} holds no text; expected at least one document",
                DATA,
            )
        index = replace(
            index, shards=(*index.shards, shard), done=stream.done, complete=stream.ended
        )
        index.save(folder)
    return index


def _hashed(pieces: Iterable[bytes], sha: Any) -> Iterator[bytes]:
    """Pass pieces through and update a hash with each."""
    for piece in pieces:
        sha.update(piece)
        yield piece
