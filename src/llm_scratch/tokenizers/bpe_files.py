"""Check BPE vocabularies: GPT-2's two files, tiktoken's ranks, the content of `tokenizer.json`.

The `tokenizers` library and GPT-2 write a token's bytes as printable characters: "Ġ" is the space.
Files are untrusted: oversized, circular or duplicate content is rejected with its position.
Tests: tests/tokenizers/test_bpe_files.py.
Source: https://github.com/openai/gpt-2 (src/encoder.py, `bytes_to_unicode`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.safe_parse import parse_json
from llm_scratch.tokenizers.merging import BYTES, merge_piece, symbols
from llm_scratch.tokenizers.vocabulary import Vocabulary, bad_vocabulary, printable, unprintable

if TYPE_CHECKING:
    import tiktoken

Merge = tuple[bytes, bytes]
MAX_BYTES = 48 << 20  # of a file
MAX_TOKENS = 1_000_000
GPT2_SHA256 = (
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
"""sha256 of OpenAI's vocab.bpe and encoder.json."""


class NotOurs(Exception):
    """A tokenizer with a feature that ByteBPE does not have; the message names it."""


def read_gpt2(
    vocab_bpe: str | Path, encoder_json: str | Path, sha256: tuple[str, str] | None
) -> dict[str, Any]:
    """Read GPT-2's two files; returns the arguments of ByteBPE."""
    rows = read_vocabulary_file(vocab_bpe, sha256 and sha256[0])
    if (n := rows.count(b"\n")) > MAX_TOKENS:
        raise bad_vocabulary(
            f"{vocab_bpe} has {n:,} lines; a vocabulary has at most {MAX_TOKENS:,} tokens"
        )
    vocab = parse_json(read_vocabulary_file(encoder_json, sha256 and sha256[1]), encoder_json, DATA)
    first, *lines = rows.decode("utf-8", "replace").split("\n")
    lines = lines if first.startswith("#version") else [first, *lines]
    return checked_parts(vocab, [line.split(" ") for line in lines if line], specials=None)


def is_tiktoken(tokenizer: object) -> TypeGuard[tiktoken.Encoding]:
    """Whether a tokenizer is one of tiktoken's; the library is not imported for the question."""
    return hasattr(tokenizer, "_mergeable_ranks")


def from_ranks(encoding: tiktoken.Encoding) -> dict[str, Any]:
    """Convert a tiktoken encoding to the arguments of ByteBPE.

    The merge of a token is the pair that its bytes become under all earlier merges.
    """
    ranks = encoding._mergeable_ranks
    if missing := [byte for byte in BYTES if bytes([byte]) not in ranks]:
        raise bad_vocabulary(
            f"the encoding {encoding.name!r} has no token for the byte {missing[0]}"
        )
    vocabulary = Vocabulary(())
    tokens = [bytes([byte]) for byte in BYTES]
    for token in sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__):
        pair = merge_piece(symbols(token), vocabulary.joined, vocabulary.pair_of)
        if len(pair) != 2:
            raise bad_vocabulary(
                f"the token {printable(token)!r} of {encoding.name!r} is not a pair"
                " of earlier tokens"
            )
        vocabulary.add(tokens[ord(pair[0])], tokens[ord(pair[1])])
        tokens.append(token)
    return {
        "merges": vocabulary,
        "ids": ranks,
        "special_tokens": encoding._special_tokens,
        "pattern": encoding._pat_str,
    }


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors about its vocabulary."""
    try:
        yield
    except UserError as e:
        raise e if str(path) in str(e) else UserError(f"{path}: {e}", e.code) from None


def checked_parts(
    vocab: Mapping[str, Any], merges: Sequence[Sequence[str]], specials: Mapping[str, int] | None
) -> dict[str, Any]:
    """Check a vocabulary against its merges; returns the arguments of ByteBPE.

    Args:
        vocab: token in GPT-2's spelling of bytes, or special token -> id.
        merges: the two halves of each, in learned order.
        specials: the special tokens; None: all that are spelled `<...>`.
    Raises:
        UserError: they disagree, or a token is neither special nor the result of a merge (code 3).
    """
    if max(len(vocab), len(merges)) > MAX_TOKENS:
        raise bad_vocabulary(
            f"{max(len(vocab), len(merges)):,} tokens exceed the limit of {MAX_TOKENS:,}"
        )
    if specials is not None and "" in specials:
        raise bad_vocabulary("the name of an added token is empty")
    ids = vocab.values()
    if specials is None and (
        any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(vocab)))
    ):
        raise bad_vocabulary(
            f"the ids of the {len(vocab)} tokens are not 0 to {len(vocab) - 1}, each once"
        )
    if (
        any(type(i) is not int for i in ids)
        or len(set(ids)) < len(vocab)
        or not 0 <= min(ids, default=0) <= max(ids, default=0) < MAX_TOKENS
    ):
        raise bad_vocabulary(
            f"the ids of the {len(vocab)} tokens are not whole numbers from 0 to"
            f" {MAX_TOKENS - 1:,}, each once"
        )
    pairs = [_pair(n, merge) for n, merge in enumerate(merges)]
    if specials is not None:
        used = {token for left, right in pairs for token in (left, right, left + right)}
        if lost := [token for token in used if printable(token) not in vocab]:
            raise bad_vocabulary(f"the token {printable(min(lost))!r} of a merge has no id")
    vocabulary = Vocabulary(pairs) if specials is None else _used_merges(pairs)
    known = {printable(token): token for token in vocabulary.symbol}
    if missing := [name for name in known if name not in vocab]:
        raise bad_vocabulary(f"the token {missing[0]!r} has no id")
    parts = {
        "merges": vocabulary,
        "ids": {token: vocab[name] for name, token in known.items()},
    }
    rest = {name: i for name, i in vocab.items() if name not in known}
    if specials is not None:
        made = {left + right for left, right in pairs}
        unmerged = {unprintable(name): i for name, i in rest.items() if name not in specials}
        if unknown_tokens := unmerged.keys() - made:
            raise _neither(printable(min(unknown_tokens)))
        return parts | {"special_tokens": specials, "unmerged": unmerged}
    if unknown := [name for name in rest if name[0] + name[-1] != "<>"]:
        raise _neither(unknown[0])
    return parts | {"special_tokens": rest}


def _pair(n: int, merge: Sequence[str]) -> Merge:
    if len(merge) != 2:
        raise bad_vocabulary(
            f"merge {n + 1} is {' '.join(map(str, merge))[:60]!r}, expected two tokens"
        )
    return unprintable(merge[0]), unprintable(merge[1])


def _neither(name: str) -> UserError:
    return bad_vocabulary(f"the token {name!r} is neither the result of a merge nor special")


def _used_merges(pairs: Sequence[Merge]) -> Vocabulary:
    """The merges of a list that can occur, in the order in which they do.

    Files made from tiktoken's ranks list every way to split a token in two. Encoding the token
    alone reaches at most one of them, and so does any text around it: as long as both halves are
    there, no merge crossed the token's ends, so its bytes were merged as they are alone. The others
    are left out, and tokens that no merge reaches stay without one.

    A merge may come before the one that makes its half (Llama 3 has ".:.:" before ".:."). It then
    occurs as soon as the half is made, so it is moved there.

    Raises:
        UserError: a merge occurs twice (code 3).
        NotOurs: a merge cannot be moved: its right half may be needed by another one first.
    """
    if repeated := len(pairs) - len(set(pairs)):
        raise bad_vocabulary(f"{repeated} merges occur twice")
    vocabulary = Vocabulary(())
    symbol = vocabulary.symbol
    waiting: dict[bytes, list[int]] = {}  # half that is not made yet -> numbers of merges
    for n in range(len(pairs)):
        possible = [n]
        while possible:
            number = heappop(possible)
            left, right = pairs[number]
            missing = next((half for half in (left, right) if half not in symbol), None)
            if left + right in symbol:
                continue
            if missing is not None:
                waiting.setdefault(missing, []).append(number)
            elif vocabulary.can_meet(left, right):
                moved_to_left = number < n and symbol[left] > symbol[right]
                if moved_to_left and vocabulary.pair_of[symbol[left]][0] == symbol[right]:
                    raise NotOurs(f"the merge of {printable(left)!r} before it is made")
                vocabulary.add(left, right)
                for later in waiting.pop(left + right, ()):
                    heappush(possible, later)
    return vocabulary


def read_vocabulary_file(path: str | Path, sha256: str | None = None) -> bytes:
    """Read a file of limited size, and check its hash if `sha256` is set."""
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise bad_vocabulary(
                f"{path} has {size:,} bytes; a vocabulary has at most {MAX_BYTES:,}"
            )
        data = path.read_bytes()
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror}; expected a tokenizer file or its folder", DATA
        ) from None
    if sha256:
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise bad_vocabulary(f"{path} has sha256 {actual}, expected {sha256}")
    return data
