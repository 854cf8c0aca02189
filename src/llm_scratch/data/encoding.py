"""Encode chunks of a source into token ids, in this process or in parallel, keeping their order.

Tests: tests/data/test_encoding.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from llm_scratch.data.plain_text import is_blank
from llm_scratch.data.readers import Chunk, split_text
from llm_scratch.data.shards import ShardProgress
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.storage.worker_processes import worker_pool
from llm_scratch.tokenizers import Tokenizer, load_tokenizer
from llm_scratch.tokenizers.special import encode_continuation

END: Chunk = ()
"""Marks the end of a source: encoded as the <|endoftext|> after the last document."""
MAX_QUEUED = 3  # chunks per worker that may wait for encoding or for collection


@dataclass(frozen=True)
class Encoded:
    """Token ids of a chunk, and the counts of its text; `last` is True for `END`."""

    ids: np.ndarray
    progress: ShardProgress
    last: bool = False


def encode(chunk: Chunk, tokenizer: Tokenizer, dtype: str) -> Encoded:
    """Encode a chunk, with `<|endoftext|>` before each document that begins in it.

    Special tokens spelled in a document are encoded as plain text.

    Raises:
        UserError: not text; names the position (code 3).
    """
    end = np.array([tokenizer.eot_token], dtype)
    if chunk == END:
        return Encoded(end, ShardProgress(portions=1), last=True)
    rows = [np.empty(0, dtype)]
    documents = 0
    empty = 0
    n_bytes = 0
    for part in chunk:
        for begins, text in part.texts():
            if begins and (is_blank(text) if part.whole else not text):
                empty += 1
                continue
            if begins:
                documents += 1
                rows.append(end)
            rows += encode_pieces(text, tokenizer, dtype, begins)
            n_bytes += len(text.encode("utf-8", "surrogatepass"))
    source_bytes = sum(part.size for part in chunk)
    progress = ShardProgress(1, 0, documents, empty, n_bytes, source_bytes)
    return Encoded(np.concatenate(rows), progress)


def encode_pieces(
    text: str, tokenizer: Tokenizer, dtype: DTypeLike, begins: bool = True
) -> list[np.ndarray]:
    """Encode a text of any length, piece by piece, as a Python list takes 36 bytes per id.

    The ids are those of the whole text if no token can cross a cut, see `readers.split_text`.

    Args:
        text: special tokens spelled in it are encoded as plain text.
        tokenizer: of the model.
        dtype: of the ids.
        begins: whether a document begins here; else the text continues one.
    """
    rows = []
    for piece in split_text(text):
        if begins:
            ids = tokenizer.encode(piece, disallowed_special=())
        else:
            ids = encode_continuation(tokenizer, piece)
        rows.append(np.array(ids, dtype))
        begins = False
    return rows


def encode_all(
    chunks: Iterable[Chunk], folder: Path, dtype: str, workers: int, run_first: str = ""
) -> Generator[Encoded]:
    """Encode chunks, in parallel and in order.

    Args:
        folder: contains the tokenizer.json.
        workers: number of processes; 1 encodes in this process, and so does a system that cannot
            start workers. Each worker holds a tokenizer and a few chunks.
        run_first: a Python file that each worker runs when it starts.
    Raises:
        UserError: a worker died (code 6).
    """
    with worker_pool(workers, _begin_worker, (folder, dtype, run_first)) as pool:
        if pool is None:
            tokenizer = load_tokenizer(folder)
            for chunk in chunks:
                yield encode(chunk, tokenizer, dtype)
            return
        queue: deque[Future[Encoded]] = deque()
        for chunk in chunks:
            queue.append(pool.submit(_encode_in_worker, chunk))
            if len(queue) > MAX_QUEUED * workers:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()


_assigned: tuple[Tokenizer, str]
"""In a worker process: its tokenizer and the dtype of its ids."""


def _begin_worker(folder: Path, dtype: str, run_first: str) -> None:
    """Initialize a worker: ignore Ctrl-C, which the parent handles, and exit with the parent."""
    global _assigned
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if run_first:
        run_user_file(Path(run_first), run_first)
    _assigned = load_tokenizer(folder), dtype


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode_in_worker(chunk: Chunk) -> Encoded:
    return encode(chunk, *_assigned)
