"""Any source into token shards: in parallel, in bounded memory, and stopped at any moment, it goes on as if it had not been.

Workers turn portions of the source into ids; this process lays them in a row, in the source's order, and cuts the row into shards.
A shard gets its name once it is whole, and the index is written after it. Which bytes come out depends on the settings alone, not on
how many workers there were or how often the work was stopped.
Proof: tests/data/test_sharding.py.
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
from llm_scratch.data.shards import Shard, ShardIndex, ShardProgress, check_size, sha256_of
from llm_scratch.errors import DATA, INTERRUPTED, UserError, unknown
from llm_scratch.storage import files
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.storage.worker_processes import check_main_guard
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, save_tokenizer

SAMPLE = 32 << 20  # bytes of text that a new bpe vocabulary is learned from, at most

PrepareCallback = Callable[[ShardProgress, int], None]
"""Is told after every portion: how far the source is read, and how many tokens that gave."""


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
    found: Callable[[int, ShardIndex], None] = lambda size, index: None,
    watch: PrepareCallback = lambda done, tokens: None,
) -> ShardIndex:
    """Turn a source into a folder of token shards, or go on where that was stopped.

    Args:
        source, field: as in `readers.open_source`.
        folder: a new folder, or one in which the same work was begun.
        tokenizer: a name in `TOKENIZERS`, or a tokenizer. "bpe" is learned from the first half of the source, 32 MiB at most, so that
            held-out text stays unseen; "chars" reads it all once to know every character.
        vocab_size: of "bpe".
        shard_tokens: ids in a shard.
        workers: processes; the result is the same.
        run_first: a Python file that each of them runs at its start, where it adds a tokenizer of yours.
        found: is told the size of the source in bytes, and the index as it stands before the work.
        watch: is told after every portion.
    Returns:
        The index of the complete folder.
    Raises:
        UserError: bad text, or a folder with something else in it (code 3); a full disk (code 6); Ctrl-C (code 130).
    """
    check_main_guard()
    folder = expand_user(folder)
    if shard_tokens < 1 or workers < 1:
        raise UserError(f"shard_tokens={shard_tokens} and workers={workers} must both be at least 1")
    path = expand_user(source.removeprefix("file:"))
    if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
        raise UserError(f"the shards would lie inside their own source, {path}; choose another folder than {folder}")
    text = open_source(source, field)
    name = tokenizer if isinstance(tokenizer, str) else f"sha256:{hashlib.sha256(_as_file(tokenizer)).hexdigest()}"
    settings = {"field": field, "tokenizer": name, "vocab_size": vocab_size, "shard_tokens": shard_tokens}
    index = _resume(folder, settings, text) or _new_index(folder, settings, text, tokenizer)
    found(text.size, index)
    if index.complete:
        return index
    encoded = encode_all(
        islice(chain(text.portions(), [END]), index.done.portions, None),
        folder, index.dtype, min(workers, max(1, text.size // CHUNK_BYTES)), run_first,
    )  # fmt: skip
    try:
        return _write(index, _TokenStream(encoded, index, watch), folder)
    except KeyboardInterrupt:
        kept = f"{ShardIndex.load(folder).tokens:,} tokens are kept in {folder}"
        raise UserError(f"stopped; {kept}; the same command goes on from there", INTERRUPTED) from None
    finally:
        encoded.close()


def _resume(folder: Path, settings: dict[str, Any], source: Source) -> ShardIndex | None:
    """The index of the same work, if it was begun in this folder; what a kill left half-written is removed.

    Raises:
        UserError: the folder holds other work, or other files (code 3).
    """
    if not folder.exists():
        return None
    begun = (folder / "index.json").exists()
    strange = sorted(path.name for path in folder.iterdir() if path.suffix != ".part") if folder.is_dir() else [folder.name]
    if strange and not begun:
        raise UserError(f"{folder} holds other files, such as {strange[0]!r}; choose a new or an empty folder", DATA)
    for left in folder.glob(".*.part"):
        files.filesystem.remove(left)
    if not begun:
        return None
    index = ShardIndex.load(folder)
    changed = [
        f"{key} was {index.settings.get(key)!r} and is now {value!r}" for key, value in settings.items() if index.settings.get(key) != value
    ]
    if {**index.source, "name": ""} != {**source.facts, "name": ""}:
        changed.append(f"source {index.source.get('name')!r} had {index.source.get('bytes', 0):,} bytes or other names")
    if changed:
        raise UserError(f"{folder} holds other work: {changed[0]}; choose another folder, or --fresh to start over", DATA)
    if not index.shards and not (folder / "tokenizer.json").exists():  # that was as far as it came
        return None
    for shard in index.shards:
        check_size(folder / shard.file, shard.tokens * np.dtype(index.dtype).itemsize)
    if sha256_of(folder / "tokenizer.json") != index.tokenizer_sha256:
        raise UserError(f"{folder}/tokenizer.json is not the one that the work began with; start again with --fresh", DATA)
    return index


def _new_index(folder: Path, settings: dict[str, Any], source: Source, tokenizer: str | Tokenizer) -> ShardIndex:
    """Begin: make the tokenizer, and write what is going to be done."""
    if isinstance(tokenizer, str):
        tokenizer = _make_tokenizer(tokenizer, settings["vocab_size"], source)
    dtype, content = "uint16" if tokenizer.n_vocab <= 1 << 16 else "uint32", _as_file(tokenizer)
    index = ShardIndex(settings, source.facts, dtype, tokenizer.n_vocab, tokenizer.eot_token, hashlib.sha256(content).hexdigest())
    index.save(folder)
    files.atomic_write(folder / "tokenizer.json", content)
    return index


def _make_tokenizer(name: str, vocab_size: int | None, source: Source) -> Tokenizer:
    """The tokenizer of a name, learned from the source where it has to be."""
    if name not in TOKENIZERS:
        raise unknown("tokenizer", name, TOKENIZERS, extensible=True)
    if name == "words":
        raise UserError("the tokenizer 'words' forgets the blanks between words, so its text cannot be had back; take bpe, gpt2 or chars")
    return TOKENIZERS[name](_read_prefix(source, min(SAMPLE, source.size // 2)) if name == "bpe" else source.texts(), vocab_size)


def _read_prefix(source: Source, room: int) -> Iterator[str]:
    """The beginning of a source's text, as many bytes as there is room for."""
    for text in chain.from_iterable(map(split_text, source.texts())):
        data = text.encode("utf-8", "replace")[:room]
        room -= len(data)
        yield data.decode("utf-8", "ignore")
        if room <= 0:
            return


def _as_file(tokenizer: Tokenizer) -> bytes:
    """What stands in its tokenizer.json."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, folder)
        return (Path(folder) / "tokenizer.json").read_bytes()


class _TokenStream:
    """The ids of all portions in one row, from which one shard after the other is taken.

    Args:
        encoded: the portions from `index.done.portions` on.
        index: says where the next shard begins.
    """

    def __init__(self, encoded: Generator[Encoded], index: ShardIndex, watch: PrepareCallback) -> None:
        self.encoded, self.watch = encoded, watch
        self.before = replace(index.done, skip=0)  # what was held by the portions before the current one
        self.tokens = index.tokens  # taken so far
        self.current = next(encoded)
        self.at = index.done.skip  # ids of the current portion that are taken

    @property
    def ended(self) -> bool:
        """Whether all is taken."""
        return self.current.last and self.at == len(self.current.ids)

    @property
    def done(self) -> ShardProgress:
        """Where the next shard begins."""
        return replace(self.before, skip=self.at)

    def take(self, n: int) -> Iterator[bytes]:
        """The next `n` ids, or all that are left, as the bytes of a file."""
        while n and not self.ended:
            if self.at == len(self.current.ids):
                self.before += self.current.held
                self.watch(self.before, self.tokens)
                self.current, self.at = next(self.encoded), 0
            ids = self.current.ids[self.at : self.at + n]
            self.at += len(ids)
            self.tokens += len(ids)
            n -= len(ids)
            yield ids.astype(ids.dtype.newbyteorder("<")).tobytes()


def _write(index: ShardIndex, row: _TokenStream, folder: Path) -> ShardIndex:
    """Cut a row into shards; the index is saved after each."""
    while not index.complete:
        name, sha, before = f"shard-{len(index.shards):05}.bin", hashlib.sha256(), row.tokens
        with files.atomic_file(folder / name) as part:
            files.filesystem.write(part, _hashed(row.take(index.settings["shard_tokens"]), sha))
        shard = Shard(name, row.tokens - before, sha.hexdigest())
        if row.ended and not row.done.documents:
            raise UserError(f"source {index.source['name']!r} holds no text; expected at least one document", DATA)
        index = replace(index, shards=(*index.shards, shard), done=row.done, complete=row.ended)
        index.save(folder)
    return index


def _hashed(pieces: Iterable[bytes], sha: Any) -> Iterator[bytes]:
    """The same pieces, each seen by a hash on its way."""
    for piece in pieces:
        sha.update(piece)
        yield piece
