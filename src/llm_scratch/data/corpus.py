"""From a source's documents to a tokenizer and two streams of token ids: one to learn from, one held out.

Several documents are joined as `<|endoftext|> document <|endoftext|> document ... <|endoftext|>`; a single one stands as it is.
Proof: tests/data/test_corpus.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.data.shards import Tokens, blocks, open_shards
from llm_scratch.data.sources import read
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer
from llm_scratch.tokenizers.special import END_OF_TEXT, end_of_text


@dataclass(frozen=True)
class TextFingerprint:
    """Which text it is: a hash over all documents, and how much they are, for a message when the hash differs."""

    sha256: str
    documents: int
    n_bytes: int

    @classmethod
    def of(cls, documents: Iterable[str]) -> TextFingerprint:
        """The fingerprint of documents; the same text cut into documents elsewhere has another one."""
        digest, number, size = hashlib.sha256(), 0, 0
        for text in documents:
            data = text.encode("utf-8", errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
            number += 1
            size += len(data)
        return cls(digest.hexdigest(), number, size)


@dataclass(frozen=True)
class Corpus:
    """A text as a model sees it. `train` and `val` are token ids; `val_bytes` is the size of the held-out text in bytes."""

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    val_bytes: int
    text: TextFingerprint | None = None
    """which text it is made of, if that is known"""

    @property
    def bytes_per_token(self) -> float:
        """Of the held-out text; turns nats per token into bits per byte."""
        return self.val_bytes / len(self.val)


def encode_documents(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """Token ids of all documents in one row, `<|endoftext|>` around each if there are several. Special text in them stays text."""
    if len(documents) == 1:
        return np.array(tokenizer.encode(documents[0], disallowed_special=()), dtype=np.int32)
    if (end := end_of_text(tokenizer)) is None:
        raise UserError(
            f"{len(documents):,} documents: this tokenizer has no {END_OF_TEXT} to stand between them; join them into one file",
            DATA,
        )
    rows = [[end, *tokenizer.encode(text, disallowed_special=())] for text in documents]
    return np.array([i for row in rows for i in row] + [end], dtype=np.int32)


def split_tokens(ids: Tokens, val_fraction: float, eot: int | None = None) -> tuple[Tokens, Tokens]:
    """The first tokens to learn from, the last `val_fraction` held out; with `eot`, the cut is moved to the next document's start."""
    cut = int(len(ids) * (1 - val_fraction))
    if eot is not None:
        later = (first + int(here[0]) for first, block in blocks(ids[:-1], cut) if len(here := np.flatnonzero(block == eot)))
        cut = next(later, cut)
    return ids[:cut], ids[cut:]


def _head(documents: list[str], share: float) -> list[str]:
    """The first documents, up to `share` of all characters: what a tokenizer may be trained on, so that held-out text stays unseen."""
    room = int(sum(map(len, documents)) * share)
    head = []
    for text in documents:
        head.append(text[:room])
        room -= len(text)
        if room <= 0:
            break
    return head


def count_bytes(ids: Tokens, tokenizer: Tokenizer) -> int:
    """The size of a text in UTF-8, by its ids: the sum over its tokens, each looked up; the end of a text has none."""
    eot = end_of_text(tokenizer)
    sizes = np.array([0 if i == eot else len(tokenizer.decode_bytes([i])) for i in range(tokenizer.n_vocab)])
    return sum(int(sizes[block].sum()) for _, block in blocks(ids))


def start_id(data: DataConfig, tokenizer: Tokenizer) -> int | None:
    """The token that every row begins with when a row is a document; None when rows begin anywhere."""
    if data.order != "documents":
        return None
    if (eot := end_of_text(tokenizer)) is None:
        raise UserError(f"data.order 'documents': this tokenizer has no {END_OF_TEXT} to begin a row with; use --data.order shuffled")
    return eot


def prepare(config: RunConfig, tokenizer: Tokenizer | None = None, check: Callable[[TextFingerprint], None] | None = None) -> Corpus:
    """Read the source, make its tokenizer (trained on the learning part only) unless it is given, and cut.

    Token shards are not read but mapped, and their tokenizer is their own.

    Args:
        config: of the run.
        tokenizer: the one to encode with; None: a new one.
        check: called with what the text is before any of it is encoded; may raise.
    Raises:
        UserError: a text too short for one window on either side of the cut, or a vocabulary smaller than the tokenizer's.
    """
    if config.data.source.startswith("shards:"):
        return _from_shards(config, check)
    data, V = config.data, config.model.vocab_size
    documents = read(data.source)
    fingerprint = TextFingerprint.of(documents)
    if check is not None:
        check(fingerprint)
    if data.split == "characters":  # one text, as the notebooks read it
        documents = ["\n".join(documents)]
    if data.tokenizer not in TOKENIZERS:
        raise unknown("tokenizer", data.tokenizer, TOKENIZERS)
    if tokenizer is None:
        trained_here = data.tokenizer == "bpe"
        texts = _head(documents, 1 - data.val_fraction) if trained_here else documents
        tokenizer = TOKENIZERS[data.tokenizer](texts, V if trained_here else None)
    _check_vocabulary(data.tokenizer, tokenizer, V)
    train: Tokens
    val: Tokens
    if data.split == "characters":
        (text,) = documents
        cut = int(len(text) * (1 - data.val_fraction))
        train, val = (encode_documents([part], tokenizer) for part in (text[:cut], text[cut:]))
    else:
        ids = encode_documents(documents, tokenizer)
        train, val = split_tokens(ids, data.val_fraction, end_of_text(tokenizer) if len(documents) > 1 else None)
    _check_length(config, train, val)
    eot = end_of_text(tokenizer)
    held_out_ids = np.asarray(val)
    held_out = tokenizer.decode((held_out_ids if eot is None else held_out_ids[held_out_ids != eot]).tolist())
    text_bytes = len(held_out.encode("utf-8", errors="surrogatepass"))
    return Corpus(tokenizer, train, val, text_bytes, fingerprint)


def _from_shards(config: RunConfig, check: Callable[[TextFingerprint], None] | None) -> Corpus:
    """The corpus of a folder of token shards, cut between two documents if one begins in the held-out part."""
    folder = config.data.source.partition(":")[2]
    if config.data.split == "characters":
        raise UserError(f"{config.data.source} holds tokens, and data.split is 'characters'; set --data.split tokens")
    ids, index = open_shards(folder)
    hashes = json.dumps([index.tokenizer_sha256, *(shard.sha256 for shard in index.shards)])
    fingerprint = TextFingerprint(hashlib.sha256(hashes.encode()).hexdigest(), index.done.documents, index.done.text_bytes)
    if check is not None:
        check(fingerprint)
    tokenizer = load_tokenizer(Path(folder).expanduser())
    _check_vocabulary(folder, tokenizer, config.model.vocab_size)
    train, val = split_tokens(ids, config.data.val_fraction, index.eot)
    _check_length(config, train, val)
    return Corpus(tokenizer, train, val, count_bytes(val, tokenizer), fingerprint)


def _check_vocabulary(name: str, tokenizer: Tokenizer, vocab_size: int) -> None:
    if tokenizer.n_vocab > vocab_size:
        raise UserError(
            f"the tokenizer {name!r} has {tokenizer.n_vocab} tokens, but model.vocab_size={vocab_size}; "
            f"set --model.vocab-size {tokenizer.n_vocab}"
        )


def _check_length(config: RunConfig, train: Tokens, val: Tokens) -> None:
    T = config.model.context_length
    for name, part in (("learning", train), ("held-out", val)):
        if len(part) <= T:
            raise UserError(
                f"the {name} part of {config.data.source!r} has {len(part)} tokens; one window takes {T + 1}: "
                f"use more text, or a smaller --model.context-length",
                DATA,
            )
