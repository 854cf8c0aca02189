"""Token shards: a text of any size as memory-mapped files of token ids.

A folder of shards contains

    shard-00000.bin ...   token ids, without a header: little-endian uint16, or uint32 if the
                          tokenizer has more than 65,536 tokens. Every shard but the last holds
                          `shard_tokens` ids. Concatenated, the shards are
                          <|endoftext|> document <|endoftext|> document ... <|endoftext|>
    tokenizer.json        the tokenizer they were made with
    index.json            a `ShardIndex`: settings, size and SHA-256 of each shard, progress

`llm-scratch data prepare` makes one (sharding.py); `--data.source shards:FOLDER` trains on it.
Tests: tests/data/test_shards.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.storage.files import atomic_write, sha256_of
from llm_scratch.storage.user_folders import expand_user

VERSION = 1
BLOCK = 1 << 22  # ids per block of a scan over all tokens
_REPREPARE_HINT = "run `llm-scratch data prepare` again with --fresh"


@dataclass(frozen=True)
class Shard:
    """One file of token ids."""

    file: str
    tokens: int
    sha256: str


@dataclass(frozen=True)
class ShardProgress:
    """Progress of the preparation: counts over the finished chunks, and tokens written of the next.

    Field names are stored in index.json.
    """

    portions: int = 0
    """finished chunks of the source"""
    skip: int = 0
    """tokens of the next chunk that are already in shards"""
    documents: int = 0
    empty: int = 0
    """blank documents, which are left out"""
    text_bytes: int = 0
    source_bytes: int = 0

    def __add__(self, other: ShardProgress) -> ShardProgress:
        return ShardProgress(*(a + b for a, b in zip(astuple(self), astuple(other))))


@dataclass(frozen=True)
class ShardIndex:
    """Index of a folder of shards; `settings` and the `source` metadata determine all its bytes."""

    settings: dict[str, Any]
    source: dict[str, Any]
    dtype: str
    n_vocab: int
    eot: int
    tokenizer_sha256: str
    shards: tuple[Shard, ...] = ()
    done: ShardProgress = field(default_factory=ShardProgress)
    complete: bool = False
    version: int = VERSION

    @property
    def tokens(self) -> int:
        """Token ids in all shards."""
        return sum(shard.tokens for shard in self.shards)

    def save(self, folder: Path) -> None:
        """Write index.json atomically."""
        values = {"tokens": self.tokens, **asdict(self)}
        atomic_write(folder / "index.json", json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ShardIndex:
        """Read index.json.

        Raises:
            UserError: missing, damaged, or of an unknown version (code 3).
        """
        try:
            values = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            version = values["version"]
            tokens = values.pop("tokens")
            if version == VERSION:
                shards = tuple(Shard(**shard) for shard in values.pop("shards"))
                done = ShardProgress(**values["done"])
                index = cls(**values | {"shards": shards, "done": done})
                valid_dtype = index.dtype in ("uint16", "uint32")
                if tokens != index.tokens or not valid_dtype or index.settings["shard_tokens"] < 1:
                    raise ValueError("inconsistent values")
                return index
        except OSError as e:
            raise UserError(
                f"no token shards in {folder} ({e.strerror});"
                " expected a folder made by `llm-scratch data prepare`",
                DATA,
            ) from e
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(
                f"{folder}/index.json is damaged ({describe_error(e, named=True)});"
                f" {_REPREPARE_HINT}",
                DATA,
            ) from e
        raise UserError(
            f"{folder}: shard format version {version!r} is not supported (expected {VERSION});"
            f" {_REPREPARE_HINT}",
            DATA,
        )


class ShardedTokens:
    """Array-like view of the token ids of several shards, indexed like one numpy array.

    `tokens[positions]` reads only these positions (an int or an array of ints). `tokens[a:b]` is a
    view and reads nothing. `np.asarray(tokens)` reads everything.

    Args:
        shards: the memory-mapped ids of each shard; all but the last hold `shard_tokens`.
        shard_tokens: ids per shard.
        begin, end: range of this view (default: all).
    """

    def __init__(
        self, shards: list[np.ndarray], shard_tokens: int, begin: int = 0, end: int | None = None
    ) -> None:
        self.shards = shards
        self.shard_tokens = shard_tokens
        self.begin = begin
        self.end = sum(map(len, shards)) if end is None else end
        self.dtype = shards[0].dtype

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, positions: Any) -> Any:
        if isinstance(positions, slice):
            begin, end, step = positions.indices(len(self))
            if step != 1:
                raise IndexError(
                    f"slice step {step} is not supported; index with an array of positions"
                )
            end = max(begin, end)
            return ShardedTokens(
                self.shards, self.shard_tokens, self.begin + begin, self.begin + end
            )
        positions = np.asarray(positions)
        if positions.size and not (-len(self) <= positions.min() and positions.max() < len(self)):
            raise IndexError(
                f"positions {positions.min()} to {positions.max()} are out of range for"
                f" {len(self)} tokens"
            )
        number, within = np.divmod(self.begin + positions % max(1, len(self)), self.shard_tokens)
        ids = np.empty(positions.shape, self.dtype)
        for n in np.unique(number):
            ids[number == n] = self.shards[n][within[number == n]]
        return ids[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("token shards can only be converted to one array by copying")
        pieces = [
            shard[max(0, self.begin - first) : max(0, self.end - first)]
            for first, shard in zip(range(0, self.end, self.shard_tokens), self.shards)
        ]
        return np.concatenate([np.empty(0, self.dtype), *pieces]).astype(
            dtype or self.dtype, copy=False
        )


Tokens = np.ndarray | ShardedTokens


def blocks(ids: Tokens, begin: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over ids from `begin` on in blocks of bounded size: (start position, ids)."""
    for first in range(begin, len(ids), BLOCK):
        yield first, np.asarray(ids[first : first + BLOCK])


def positions_of(ids: Tokens, token: int) -> np.ndarray:
    """All positions of a token, in order."""
    positions = [first + np.flatnonzero(block == token) for first, block in blocks(ids)]
    return np.concatenate([np.empty(0, np.int64), *positions])


def open_shards(folder: str | Path) -> tuple[ShardedTokens, ShardIndex]:
    """Open a folder of token shards: its memory-mapped tokens and its index.

    File sizes are checked; `check_shards` checks every byte.

    Raises:
        UserError: no shards, not complete, or a shard missing or of a wrong size (code 3).
    """
    folder = expand_user(folder)
    index = ShardIndex.load(folder)
    if not index.complete:
        raise UserError(
            f"the shards in {folder} are not complete ({index.tokens:,} tokens so far);"
            " run the same `llm-scratch data prepare` again to resume",
            DATA,
        )
    shards = [_map(folder, shard, index) for shard in index.shards]
    return ShardedTokens(shards, index.settings["shard_tokens"]), index


def _map(folder: Path, shard: Shard, index: ShardIndex) -> np.ndarray:
    """Memory-map the ids of a shard."""
    path = folder / shard.file
    dtype = np.dtype(index.dtype).newbyteorder("<")
    check_size(path, shard.tokens * dtype.itemsize)
    return np.memmap(path, dtype, mode="r")


def check_size(path: Path, size: int) -> None:
    """Check that a shard exists and has the size stated in the index.

    Raises:
        UserError: missing, or of another size (code 3).
    """
    actual = path.stat().st_size if path.is_file() else None
    if actual != size:
        problem = "is missing" if actual is None else f"has {actual:,} bytes, not {size:,}"
        raise UserError(f"{path} {problem}; {_REPREPARE_HINT}", DATA)


def check_shards(folder: str | Path) -> Iterator[str]:
    """Verify the SHA-256 of every file of a folder of shards; yields each file name once verified.

    Raises:
        UserError: as `open_shards`; a file that changed since it was written (code 3).
    """
    folder = expand_user(folder)
    _, index = open_shards(folder)
    shards = [(shard.file, shard.sha256) for shard in index.shards]
    for file, expected in [("tokenizer.json", index.tokenizer_sha256), *shards]:
        actual = shard_sha256(folder / file)
        if actual != expected:
            raise UserError(
                f"{folder / file} is damaged:"
                f" its sha256 is {actual[:16]}…, expected {expected[:16]}…; {_REPREPARE_HINT}",
                DATA,
            )
        yield file


def shard_sha256(path: Path) -> str:
    """SHA-256 of a file of a folder of shards, in hex.

    Raises:
        UserError: the file cannot be read (code 3).
    """
    try:
        return sha256_of(path)
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}; {_REPREPARE_HINT}", DATA) from e
