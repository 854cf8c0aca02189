"""Build a corpus: read a source, make its tokenizer, encode training and validation token ids.

Several documents are joined as `<|endoftext|> document <|endoftext|> document ... <|endoftext|>`.
A single document gets no `<|endoftext|>`.
Tests: tests/data/test_corpus.py.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.data.encoding import encode_pieces
from llm_scratch.data.fit import check_fit
from llm_scratch.data.shards import Tokens, blocks, open_shards, positions_of
from llm_scratch.data.sources import read
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, decoding_every_id, load_tokenizer
from llm_scratch.tokenizers.locate import open_tokenizer
from llm_scratch.tokenizers.special import END_OF_TEXT, end_of_text, target_bytes

N_SPANS = 64  # spans in a sample of a text


@dataclass(frozen=True)
class TextFingerprint:
    """Identity of a text, to notice that it changed: SHA-256 over all documents, and its size."""

    sha256: str
    documents: int
    n_bytes: int

    @classmethod
    def of(cls, documents: Iterable[str]) -> TextFingerprint:
        """Fingerprint documents. The same text split into other documents gives another hash."""
        digest = hashlib.sha256()
        n_documents = 0
        n_bytes = 0
        for text in documents:
            data = text.encode("utf-8", errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
            n_documents += 1
            n_bytes += len(data)
        return cls(digest.hexdigest(), n_documents, n_bytes)


@dataclass(frozen=True)
class Corpus:
    """A tokenized text: ids for training and for validation."""

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    val_bytes: int
    """bytes of text behind the validation ids, without the first, which is never a target"""
    text: TextFingerprint | None = None
    """the text it was made from, if known"""

    @property
    def bytes_per_token(self) -> float:
        """Bytes per token of the validation text; converts nats per token into bits per byte."""
        return self.val_bytes / max(1, len(self.val) - 1)


def encode_documents(
    documents: list[str], tokenizer: Tokenizer, start_id: int | None = None
) -> np.ndarray:
    """Encode all documents into one array, `<|endoftext|>` around each if there are several.

    Special tokens spelled in the text are encoded as plain text. Returns int32 [N].

    Args:
        documents: the texts.
        tokenizer: of the model.
        start_id: `model.start_id`, to evaluate a model whose rows all began with this token: it
            precedes each document, a single one too. If it is the end-of-text token, it also
            follows the last one.
    """
    if start_id is not None:
        ids = _join(documents, tokenizer, start_id)
        return ids if start_id == end_of_text(tokenizer) else ids[:-1]
    return _encode(documents[0], tokenizer) if len(documents) == 1 else _join(documents, tokenizer)


def _join(documents: list[str], tokenizer: Tokenizer, start_id: int | None = None) -> np.ndarray:
    """Encode documents with a token before each and after the last, int32 [N].

    The token is `start_id`, by default `<|endoftext|>`.
    """
    if start_id is None and (start_id := end_of_text(tokenizer)) is None:
        raise UserError(
            f"{len(documents):,} documents: this tokenizer has no {END_OF_TEXT} to separate them;"
            " join them into one file",
            DATA,
        )
    end = np.array([start_id], dtype=np.int32)
    rows = [part for text in documents for part in (end, _encode(text, tokenizer))]
    return np.concatenate([*rows, end])


def _encode(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Encode one text, int32 [N]."""
    return np.concatenate([np.empty(0, np.int32), *encode_pieces(text, tokenizer, np.int32)])


def split_tokens(ids: Tokens, val_fraction: float, eot: int | None = None) -> tuple[Tokens, Tokens]:
    """Split token ids: the first for training, the last `val_fraction` for validation.

    With `eot`, the split moves forward to the start of the next document, unless less than a
    quarter of the requested validation tokens would remain.
    """
    cut = int(len(ids) * (1 - val_fraction))
    if eot is not None:
        latest = len(ids) - (len(ids) - cut) // 4
        starts = (first + np.flatnonzero(block == eot) for first, block in blocks(ids[:-1], cut))
        next_start = next((int(positions[0]) for positions in starts if len(positions)), len(ids))
        cut = next_start if next_start <= latest else cut
    return ids[:cut], ids[cut:]


def split_documents(documents: list[str], val_fraction: float) -> tuple[list[str], list[str]]:
    """Split documents into training and validation: at 0.1, every tenth document is for validation.

    Evenly spaced, because the files of a folder are often sorted by kind: the last ones would not
    be representative.

    Raises:
        UserError: too few documents for a validation part (code 3).
    """
    is_val = [int((i + 1) * val_fraction) > int(i * val_fraction) for i in range(len(documents))]
    val = [text for text, in_val in zip(documents, is_val) if in_val]
    if not val or len(val) == len(documents):
        raise UserError(
            f"data.split: {len(documents)} documents are too few to use {val_fraction:.1%} of them "
            "for validation; set --data.split tokens, or another --data.val-fraction",
            DATA,
        )
    return [text for text, in_val in zip(documents, is_val) if not in_val], val


def _read_prefix(documents: list[str], share: float) -> list[str]:
    """The first `share` of all characters, so that a tokenizer sees no validation text."""
    remaining = int(sum(map(len, documents)) * share)
    prefix = []
    for text in documents:
        prefix.append(text[:remaining])
        remaining -= len(text)
        if remaining <= 0:
            break
    return prefix


def sample_text(documents: list[str], characters: int) -> list[str]:
    """Sample about `characters` characters in `N_SPANS` spans, evenly spaced over all documents.

    Returns all documents if they are no longer than that.
    """
    total = sum(map(len, documents))
    if total <= characters:
        return documents
    size = characters // N_SPANS
    sample = []
    before = 0
    starts = [i * total // N_SPANS for i in range(N_SPANS)]
    for text in documents:
        first = bisect_left(starts, before - size + 1)
        for start in starts[first : bisect_left(starts, before + len(text))]:
            sample.append(text[max(0, start - before) : start - before + size])
        before += len(text)
    return sample


def count_bytes(ids: Tokens, tokenizer: Tokenizer) -> int:
    """As `special.target_bytes` of token ids that may exceed memory: from the size of each token.

    So not for tokenizers that put spaces between tokens.
    """
    eot = end_of_text(tokenizer)
    sizes = np.array(
        [0 if i == eot else len(tokenizer.decode_bytes([i])) for i in range(tokenizer.n_vocab)]
    )
    n_bytes = sum(int(sizes[block].sum()) for _, block in blocks(ids[1:]))
    if eot is None or not getattr(tokenizer, "puts_space_first", False):
        return n_bytes
    return n_bytes - int((positions_of(ids, eot) < len(ids) - 1).sum())


def start_id(data: DataConfig, tokenizer: Tokenizer) -> int | None:
    """The token at the start of each row when a row is a document; None for any other order."""
    if data.order != "documents":
        return None
    if (eot := end_of_text(tokenizer)) is None:
        raise UserError(
            f"data.order 'documents': this tokenizer has no {END_OF_TEXT} to begin a row with;"
            " use --data.order shuffled"
        )
    return eot


def prepare(
    config: RunConfig,
    tokenizer: Tokenizer | None = None,
    check: Callable[[TextFingerprint], None] | None = None,
) -> Corpus:
    """Read and tokenize the text of a run, and check that rows of its context length fit.

    The tokenizer is trained on the training part only, unless one is passed.

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
    """Read and tokenize the text of a run, without checking that rows of its context length fit.

    Token shards are memory-mapped and bring their own tokenizer.

    Args:
        config: the run.
        tokenizer: the tokenizer to use (default: made from `config.data.tokenizer`).
        documents: the result of `read(config.data.source)`, if already available.
        check: called with the fingerprint of the text before encoding; may raise.
    Raises:
        UserError: unknown source or tokenizer, no text, or model.vocab_size below the tokenizer's.
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
        separator = end_of_text(tokenizer) if len(documents) > 1 else None
        train, val = split_tokens(ids, data.val_fraction, separator)
    else:
        encode = _join if data.split == "documents" else encode_documents
        train, val = (encode(part, tokenizer) for part in parts)
    return Corpus(
        tokenizer, train, val, target_bytes(np.asarray(val).tolist(), tokenizer), fingerprint
    )


def make_tokenizer(config: RunConfig, train: list[str], documents: list[str]) -> Tokenizer:
    """Train or open the tokenizer that `config.data.tokenizer` names.

    Args:
        config: the run.
        train: training texts; the vocabulary comes from them, or from `data.tokenizer_sample`
            characters of them.
        documents: all texts, for the alphabet of "chars" and "words".
    Raises:
        UserError: neither a name in `TOKENIZERS` nor a path of a tokenizer.
    """
    data = config.data
    if data.tokenizer == "bpe":
        if data.tokenizer_sample is not None:
            train = sample_text(train, data.tokenizer_sample)
        return TOKENIZERS["bpe"](train, config.model.vocab_size)
    if data.tokenizer in TOKENIZERS:
        return decoding_every_id(TOKENIZERS[data.tokenizer](documents, None))
    if not expand_user(data.tokenizer).exists():
        raise unknown("tokenizer", data.tokenizer, TOKENIZERS, extensible=True)
    return open_tokenizer(data.tokenizer)


def _from_shards(config: RunConfig, check: Callable[[TextFingerprint], None] | None) -> Corpus:
    """Open a folder of token shards as a corpus, split between two documents where possible."""
    folder = config.data.source.partition(":")[2]
    if config.data.split != "tokens":
        raise UserError(
            f"{config.data.source}: data.split={config.data.split!r} does not apply to token"
            " shards; set --data.split tokens"
        )
    ids, index = open_shards(folder)
    hashes = json.dumps([index.tokenizer_sha256, *(shard.sha256 for shard in index.shards)])
    sha256 = hashlib.sha256(hashes.encode()).hexdigest()
    fingerprint = TextFingerprint(sha256, index.done.documents, index.done.text_bytes)
    if check is not None:
        check(fingerprint)
    tokenizer = load_tokenizer(expand_user(folder))
    _check_vocabulary(folder, tokenizer, config.model.vocab_size)
    train, val = split_tokens(ids, config.data.val_fraction, index.eot)
    return Corpus(tokenizer, train, val, count_bytes(val, tokenizer), fingerprint)


def _check_vocabulary(name: str, tokenizer: Tokenizer, vocab_size: int) -> None:
    if tokenizer.n_vocab > vocab_size:
        raise UserError(
            f"tokenizer {name!r} has {tokenizer.n_vocab} tokens, but model.vocab_size={vocab_size};"
            f" set --model.vocab-size {tokenizer.n_vocab}"
        )
