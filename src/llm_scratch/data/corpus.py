"""From a source's documents to a tokenizer and two streams of token ids: one to learn from, one held out.

Several documents are joined as `<|endoftext|> document <|endoftext|> document ... <|endoftext|>`; a single one stands as it is.
Proof: tests/data/test_corpus.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.data.sources import read
from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer


@dataclass(frozen=True)
class Corpus:
    """A text as a model sees it. `train` and `val` are token ids; `val_bytes` is the size of the held-out text in bytes."""

    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray
    val_bytes: int

    @property
    def bytes_per_token(self) -> float:
        """Of the held-out text; turns nats per token into bits per byte."""
        return self.val_bytes / len(self.val)


def encode_documents(documents: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """Token ids of all documents in one row, `<|endoftext|>` around each if there are several. Special text in them stays text."""
    if len(documents) == 1:
        return np.array(tokenizer.encode(documents[0], disallowed_special=()), dtype=np.int32)
    end = tokenizer.eot_token
    rows = [[end, *tokenizer.encode(text, disallowed_special=())] for text in documents]
    return np.array([i for row in rows for i in row] + [end], dtype=np.int32)


def split_tokens(ids: np.ndarray, val_fraction: float, eot: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first tokens to learn from, the last `val_fraction` held out; with `eot`, the cut is moved to the next document's start."""
    cut = int(len(ids) * (1 - val_fraction))
    if eot is not None and len(later := np.flatnonzero(ids[cut:-1] == eot)):
        cut += int(later[0])
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


def start_id(data: DataConfig, tokenizer: Tokenizer) -> int | None:
    """The token that every row begins with when a row is a document; None when rows begin anywhere."""
    return tokenizer.eot_token if data.order == "documents" else None


def prepare(config: RunConfig, tokenizer: Tokenizer | None = None) -> Corpus:
    """Read the source, make its tokenizer (trained on the learning part only) unless it is given, and cut.

    Raises:
        UserError: a text too short for one window on either side of the cut, or a vocabulary smaller than the tokenizer's.
    """
    data, V, T = config.data, config.model.vocab_size, config.model.context_length
    documents = read(data.source)
    if data.split == "characters":  # one text, as the notebooks read it
        documents = ["\n".join(documents)]
    if data.tokenizer not in TOKENIZERS:
        raise unknown("tokenizer", data.tokenizer, TOKENIZERS)
    if tokenizer is None:
        trained_here = data.tokenizer == "bpe"
        texts = _head(documents, 1 - data.val_fraction) if trained_here else documents
        tokenizer = TOKENIZERS[data.tokenizer](texts, V if trained_here else None)
    if tokenizer.n_vocab > V:
        raise UserError(
            f"the tokenizer {data.tokenizer!r} has {tokenizer.n_vocab} tokens, but model.vocab_size={V}; "
            f"set --model.vocab-size {tokenizer.n_vocab}"
        )
    if data.split == "characters":
        (text,) = documents
        cut = int(len(text) * (1 - data.val_fraction))
        train, val = (encode_documents([part], tokenizer) for part in (text[:cut], text[cut:]))
    else:
        ids = encode_documents(documents, tokenizer)
        train, val = split_tokens(ids, data.val_fraction, tokenizer.eot_token if len(documents) > 1 else None)
    for name, part in (("learning", train), ("held-out", val)):
        if len(part) <= T:
            raise UserError(
                f"the {name} part of {data.source!r} has {len(part)} tokens; one window takes {T + 1}: "
                f"use more text, or a smaller --model.context-length",
                DATA,
            )
    text_bytes = len(tokenizer.decode([int(i) for i in val if i != tokenizer.eot_token]).encode("utf-8", errors="surrogatepass"))
    return Corpus(tokenizer, train, val, text_bytes)
