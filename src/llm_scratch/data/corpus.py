"""From a source's documents to a tokenizer and two streams of token ids: one to learn from, one held out.

Several documents are joined as `<|endoftext|> document <|endoftext|> document ... <|endoftext|>`; a single one stands as it is.
Proof: tests/data/test_corpus.py.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.data.fit import check_fit
from llm_scratch.data.readers import split_text
from llm_scratch.data.shards import Tokens, blocks, open_shards
from llm_scratch.data.sources import read
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, decoding_every_id, load_tokenizer
from llm_scratch.tokenizers.locate import open_tokenizer
from llm_scratch.tokenizers.special import END_OF_TEXT, end_of_text

N_SPANS = 64  # of a sample of a text


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
    """Token ids of all documents in one row, `<|endoftext|>` around each if there are several.

    Special text in them stays text. Returns int32 [N].
    """
    return _encode(documents[0], tokenizer) if len(documents) == 1 else _join(documents, tokenizer)


def _join(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """Token ids of documents with `<|endoftext|>` before each and after the last, int32 [N]."""
    if (eot := end_of_text(tokenizer)) is None:
        raise UserError(
            f"{len(documents):,} documents: this tokenizer has no {END_OF_TEXT} to stand between them; join them into one file",
            DATA,
        )
    end = np.array([eot], dtype=np.int32)
    rows = [part for text in documents for part in (end, _encode(text, tokenizer))]
    return np.concatenate([*rows, end])


def _encode(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Token ids of one text, int32 [N]; a long one goes piece by piece, as a Python list takes 36 bytes for each id."""
    rows = [np.array(tokenizer.encode(piece, disallowed_special=()), dtype=np.int32) for piece in split_text(text)]
    return np.concatenate([np.empty(0, np.int32), *rows])


def split_tokens(ids: Tokens, val_fraction: float, eot: int | None = None) -> tuple[Tokens, Tokens]:
    """The first tokens for training, the last `val_fraction` for validation.

    With `eot`, the cut moves to the start of the next document, unless that would leave less than a quarter of the share.
    """
    cut = int(len(ids) * (1 - val_fraction))
    if eot is not None:
        latest = len(ids) - (len(ids) - cut) // 4
        starts = (first + np.flatnonzero(block == eot) for first, block in blocks(ids[:-1], cut))
        next_start = next((int(here[0]) for here in starts if len(here)), len(ids))
        cut = next_start if next_start <= latest else cut
    return ids[:cut], ids[cut:]


def split_documents(documents: list[str], val_fraction: float) -> tuple[list[str], list[str]]:
    """Documents for training and for validation: at 0.1, every tenth document is for validation.

    Files of a folder are often sorted by kind, so that the last ones are unlike the rest; evenly spaced ones are like it.

    Raises:
        UserError: there are too few documents to hold one out (code 3).
    """
    held_out = [int((i + 1) * val_fraction) > int(i * val_fraction) for i in range(len(documents))]
    val = [text for text, held in zip(documents, held_out) if held]
    if not val or len(val) == len(documents):
        raise UserError(
            f"data.split: {len(documents)} documents are too few to hold out {val_fraction:.1%} of them; "
            "set --data.split tokens, or another --data.val-fraction",
            DATA,
        )
    return [text for text, held in zip(documents, held_out) if not held], val


def _read_prefix(documents: list[str], share: float) -> list[str]:
    """The first documents, up to `share` of all characters: what a tokenizer may learn from, so that validation text stays unseen."""
    room = int(sum(map(len, documents)) * share)
    head = []
    for text in documents:
        head.append(text[:room])
        room -= len(text)
        if room <= 0:
            break
    return head


def sample_text(documents: list[str], characters: int) -> list[str]:
    """About so many characters of some documents, in `STRETCHES` stretches spread evenly over all of them; all, if they have no more."""
    total = sum(map(len, documents))
    if total <= characters:
        return documents
    size, sample, before = characters // N_SPANS, [], 0
    starts = [i * total // N_SPANS for i in range(N_SPANS)]
    for text in documents:
        for start in starts[bisect_left(starts, before - size + 1) : bisect_left(starts, before + len(text))]:
            sample.append(text[max(0, start - before) : start - before + size])
        before += len(text)
    return sample


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
    """Read the source, make its tokenizer (learned from the training part only) unless it is given, cut, and check that rows fit.

    Raises:
        UserError: as `read_corpus` and `check_fit`.
    """
    corpus = read_corpus(config, tokenizer, check=check)
    check_fit(config, corpus.train, corpus.val, end_of_text(corpus.tokenizer))
    return corpus


def read_corpus(
    config: RunConfig,
    tokenizer: Tokenizer | None = None,
    documents: list[str] | None = None,
    check: Callable[[TextFingerprint], None] | None = None,
) -> Corpus:
    """The text of a run as two rows of token ids, whether or not rows of its context length fit into them.

    Token shards are not read but mapped, and their tokenizer is their own.

    Args:
        config: the run.
        tokenizer: the one to use; None makes that of `config.data.tokenizer`.
        documents: what `read(config.data.source)` gives, if it was called already.
        check: called with what the text is before any of it is encoded; may raise.
    Raises:
        UserError: no such source or tokenizer, no text, or a vocabulary smaller than the tokenizer's.
    """
    if config.data.source.startswith("shards:"):
        return _from_shards(config, check)
    data = config.data
    documents = read(data.source) if documents is None else documents
    fingerprint = TextFingerprint.of(documents)
    if check is not None:
        check(fingerprint)
    if data.split == "characters":  # one text, as the notebooks read it
        documents = ["\n".join(documents)]
        cut = int(len(documents[0]) * (1 - data.val_fraction))
        parts = [documents[0][:cut]], [documents[0][cut:]]
    elif data.split == "documents":
        parts = split_documents(documents, data.val_fraction)
    else:
        parts = _read_prefix(documents, 1 - data.val_fraction), documents
    if tokenizer is None:
        tokenizer = make_tokenizer(config, parts[0], documents)
    _check_vocabulary(data.tokenizer, tokenizer, config.model.vocab_size)
    train: Tokens
    val: Tokens
    if data.split == "tokens":
        ids = encode_documents(documents, tokenizer)
        train, val = split_tokens(ids, data.val_fraction, end_of_text(tokenizer) if len(documents) > 1 else None)
    else:
        encode = _join if data.split == "documents" else encode_documents
        train, val = (encode(part, tokenizer) for part in parts)
    eot = end_of_text(tokenizer)
    text_ids = np.asarray(val) if eot is None else val[np.asarray(val) != eot]
    held_out = tokenizer.decode(text_ids.tolist())
    return Corpus(tokenizer, train, val, len(held_out.encode("utf-8", errors="surrogatepass")), fingerprint)


def make_tokenizer(config: RunConfig, train: list[str], documents: list[str]) -> Tokenizer:
    """The tokenizer that `config.data.tokenizer` names, learned from the text or opened.

    Args:
        config: the run.
        train: texts of the training part: what a vocabulary is learned from, or `data.tokenizer_sample` characters of it.
        documents: all texts, for the alphabet of "chars" and "words".
    Raises:
        UserError: neither a name in `TOKENIZERS` nor a path of a tokenizer.
    """
    data, sample = config.data, config.data.tokenizer_sample
    if data.tokenizer == "bpe":
        return TOKENIZERS["bpe"](train if sample is None else sample_text(train, sample), config.model.vocab_size)
    if data.tokenizer in TOKENIZERS:
        return decoding_every_id(TOKENIZERS[data.tokenizer](documents, None))
    if not expand_user(data.tokenizer).exists():
        raise unknown("tokenizer", data.tokenizer, TOKENIZERS, extensible=True)
    return open_tokenizer(data.tokenizer)


def _from_shards(config: RunConfig, check: Callable[[TextFingerprint], None] | None) -> Corpus:
    """The corpus of a folder of token shards, cut between two documents if one begins in the validation part."""
    folder = config.data.source.partition(":")[2]
    if config.data.split != "tokens":
        raise UserError(f"{config.data.source} holds tokens, and data.split is {config.data.split!r}; set --data.split tokens")
    ids, index = open_shards(folder)
    hashes = json.dumps([index.tokenizer_sha256, *(shard.sha256 for shard in index.shards)])
    fingerprint = TextFingerprint(hashlib.sha256(hashes.encode()).hexdigest(), index.done.documents, index.done.text_bytes)
    if check is not None:
        check(fingerprint)
    tokenizer = load_tokenizer(expand_user(folder))
    _check_vocabulary(folder, tokenizer, config.model.vocab_size)
    train, val = split_tokens(ids, config.data.val_fraction, index.eot)
    return Corpus(tokenizer, train, val, count_bytes(val, tokenizer), fingerprint)


def _check_vocabulary(name: str, tokenizer: Tokenizer, vocab_size: int) -> None:
    if tokenizer.n_vocab > vocab_size:
        raise UserError(
            f"the tokenizer {name!r} has {tokenizer.n_vocab} tokens, but model.vocab_size={vocab_size}; "
            f"set --model.vocab-size {tokenizer.n_vocab}"
        )
