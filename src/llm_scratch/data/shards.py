"""Token shards: a text of any size as files of token ids, of which a run reads only the places that it needs.

A folder of shards holds

    shard-00000.bin ...   token ids and nothing else: little-endian uint16, or uint32 if the tokenizer has more than 65,536 tokens;
                          every shard but the last holds `shard_tokens` ids, and together they are one row:
                          <|endoftext|> document <|endoftext|> document ... <|endoftext|>
    tokenizer.json        the tokenizer they were made with
    index.json            an `Index`: what the shards hold, their sha256, and how far the work is

`llm-scratch data prepare` makes one (sharding.py); `--data.source shards:FOLDER` trains on it.
Proof: tests/data/test_shards.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.user_folders import expand_user

VERSION = 1
BLOCK = 1 << 22  # ids looked at together where a whole row is gone through
_REPREPARE_HINT = "run `llm-scratch data prepare` again with --fresh"


@dataclass(frozen=True)
class Shard:
    """One file of token ids."""

    file: str
    tokens: int
    sha256: str


@dataclass(frozen=True)
class ShardProgress:
    """How far the work is: what all portions of the source before one held, and how many tokens of that one are in shards too."""

    portions: int = 0
    skip: int = 0
    documents: int = 0
    empty: int = 0
    """documents without a character, which were left out"""
    text_bytes: int = 0
    source_bytes: int = 0

    def __add__(self, other: ShardProgress) -> ShardProgress:
        return ShardProgress(*(a + b for a, b in zip(astuple(self), astuple(other))))


@dataclass(frozen=True)
class ShardIndex:
    """What a folder of shards holds; `settings` and what is known of the `source` decide every byte of it."""

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
        """Write index.json, whole or not at all."""
        atomic_write(folder / "index.json", json.dumps({"tokens": self.tokens, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ShardIndex:
        """Read index.json.

        Raises:
            UserError: there is none, it is damaged, or of a version that is not known here (code 3).
        """
        try:
            values = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            version, tokens = values["version"], values.pop("tokens")
            if version == VERSION:
                shards = tuple(Shard(**shard) for shard in values.pop("shards"))
                index = cls(**values | {"shards": shards, "done": ShardProgress(**values["done"])})
                if tokens != index.tokens or index.dtype not in ("uint16", "uint32") or index.settings["shard_tokens"] < 1:
                    raise ValueError("its numbers contradict each other")
                return index
        except OSError as e:
            raise UserError(
                f"no token shards in {folder} ({e.strerror}); expected a folder that `llm-scratch data prepare` made", DATA
            ) from e
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{folder}/index.json is damaged ({describe_error(e, named=True)}); {_REPREPARE_HINT}", DATA) from e
        raise UserError(f"{folder} holds shards of version {version!r}, and this program knows {VERSION}; {_REPREPARE_HINT}", DATA)


class ShardedTokens:
    """One long row of token ids that lie in several shards: a numpy array to those who ask for places in it.

    `row[places]` with an array of places (or one) reads them, and nothing else; `row[a:b]` is a view, which reads nothing;
    `np.asarray(row)` reads it all.

    Args:
        shards: the ids of each, memory-mapped; all but the last hold `shard_tokens`.
        shard_tokens: as it says.
        begin, end: the part of the row that this is; None: to its end.
    """

    def __init__(self, shards: list[np.ndarray], shard_tokens: int, begin: int = 0, end: int | None = None) -> None:
        self.shards, self.shard_tokens, self.begin = shards, shard_tokens, begin
        self.end = sum(map(len, shards)) if end is None else end
        self.dtype = shards[0].dtype

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, places: Any) -> Any:
        if isinstance(places, slice):
            begin, end, step = places.indices(len(self))
            if step != 1:
                raise IndexError(f"a row of shards has no step of {step} in a slice; read the places as an array")
            return ShardedTokens(self.shards, self.shard_tokens, self.begin + begin, self.begin + max(begin, end))
        places = np.asarray(places)
        if places.size and not (-len(self) <= places.min() and places.max() < len(self)):
            raise IndexError(f"places {places.min()} to {places.max()} are not all in a row of {len(self)} tokens")
        number, within = np.divmod(self.begin + places % max(1, len(self)), self.shard_tokens)
        ids = np.empty(places.shape, self.dtype)
        for n in np.unique(number):
            ids[number == n] = self.shards[n][within[number == n]]
        return ids[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the ids of several shards can only be had as a copy")
        pieces = [
            shard[max(0, self.begin - first) : max(0, self.end - first)]
            for first, shard in zip(range(0, self.end, self.shard_tokens), self.shards)
        ]
        return np.concatenate([np.empty(0, self.dtype), *pieces]).astype(dtype or self.dtype, copy=False)


Tokens = np.ndarray | ShardedTokens


def blocks(ids: Tokens, begin: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """A row of ids from `begin` on in parts that fit any memory: (where the part begins, its ids)."""
    for first in range(begin, len(ids), BLOCK):
        yield first, np.asarray(ids[first : first + BLOCK])


def positions_of(ids: Tokens, token: int) -> np.ndarray:
    """Every place where a token stands."""
    found = [first + np.flatnonzero(block == token) for first, block in blocks(ids)]
    return np.concatenate([np.empty(0, np.int64), *found])


def open_shards(folder: str | Path) -> tuple[ShardedTokens, ShardIndex]:
    """The tokens of a folder of shards, memory-mapped, and its index. Sizes are checked; `check_shards` checks every byte.

    Raises:
        UserError: not a folder of shards, one that is not finished, or a shard that is missing or too short (code 3).
    """
    folder = expand_user(folder)
    index = ShardIndex.load(folder)
    if not index.complete:
        raise UserError(
            f"the shards in {folder} are not finished ({index.tokens:,} tokens so far); run the same `llm-scratch data prepare` again", DATA
        )
    return ShardedTokens([_map(folder, shard, index) for shard in index.shards], index.settings["shard_tokens"]), index


def _map(folder: Path, shard: Shard, index: ShardIndex) -> np.ndarray:
    """A shard's ids, memory-mapped."""
    path, dtype = folder / shard.file, np.dtype(index.dtype).newbyteorder("<")
    check_size(path, shard.tokens * dtype.itemsize)
    return np.memmap(path, dtype, mode="r")


def check_size(path: Path, size: int) -> None:
    """See that a shard is there and has as many bytes as the index says.

    Raises:
        UserError: it is not so (code 3).
    """
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        raise UserError(f"{path} {'is missing' if found is None else f'has {found:,} bytes, not {size:,}'}; {_REPREPARE_HINT}", DATA)


def check_shards(folder: str | Path) -> Iterator[str]:
    """Compare every file of a folder of shards with the sha256 in its index; names each file once it is found right.

    Raises:
        UserError: as `open_shards`; a file that has changed since it was written (code 3).
    """
    folder = expand_user(folder)
    _, index = open_shards(folder)
    for file, sha256 in [("tokenizer.json", index.tokenizer_sha256), *((shard.file, shard.sha256) for shard in index.shards)]:
        if (found := sha256_of(folder / file)) != sha256:
            raise UserError(f"{folder / file} is damaged: its sha256 is {found[:16]}…, expected {sha256[:16]}…; {_REPREPARE_HINT}", DATA)
        yield file


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex.

    Raises:
        UserError: it cannot be read (code 3).
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}; {_REPREPARE_HINT}", DATA) from e
