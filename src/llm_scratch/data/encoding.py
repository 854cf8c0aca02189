"""Portions of a source into token ids, in this process or in several at once; they come out in the order in which they went in.

Proof: tests/data/test_encoding.py.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_scratch.data.plain_text import is_blank
from llm_scratch.data.readers import Chunk, split_text
from llm_scratch.data.shards import ShardProgress
from llm_scratch.storage.worker_processes import worker_pool
from llm_scratch.tokenizers import Tokenizer, load_tokenizer

END: Chunk = ()
"""The portion that stands for the end of a source: nothing but the <|endoftext|> after the last document."""
MAX_QUEUED = 3  # portions a worker that may wait to be turned into ids or to be taken


@dataclass(frozen=True)
class Encoded:
    """A portion as token ids, and what it held; `last` is that of `END`."""

    ids: np.ndarray
    held: ShardProgress
    last: bool = False


def encode(portion: Chunk, tokenizer: Tokenizer, dtype: str) -> Encoded:
    """The ids of a portion: `<|endoftext|>` before each document that begins in it. Special text in a document stays text.

    Raises:
        UserError: what is no text, with its place (code 3).
    """
    end = np.array([tokenizer.eot_token], dtype)
    if portion == END:
        return Encoded(end, ShardProgress(portions=1), last=True)
    rows = [np.empty(0, dtype)]
    documents = empty = n_bytes = 0
    for part in portion:
        for begins, text in part.texts():
            if begins and (is_blank(text) if part.whole else not text):
                empty += 1
                continue
            if begins:
                documents += 1
                rows.append(end)
            rows += [np.array(tokenizer.encode(piece, disallowed_special=()), dtype) for piece in split_text(text)]
            n_bytes += len(text.encode("utf-8", "surrogatepass"))
    return Encoded(np.concatenate(rows), ShardProgress(1, 0, documents, empty, n_bytes, sum(part.size for part in portion)))


def encode_all(portions: Iterable[Chunk], folder: Path, dtype: str, workers: int, run_first: str = "") -> Generator[Encoded]:
    """The ids of many portions, in their order.

    Args:
        folder: holds the tokenizer.json.
        workers: processes; 1, or where none can start: this one. Each holds a tokenizer and a few portions.
        run_first: a Python file that each runs at its start.
    Raises:
        UserError: a worker ended before its time (code 6).
    """
    with worker_pool(workers, _begin_worker, (folder, dtype, run_first)) as pool:
        if pool is None:
            tokenizer = load_tokenizer(folder)
            for portion in portions:
                yield encode(portion, tokenizer, dtype)
            return
        waiting: deque[Future[Encoded]] = deque()
        for portion in portions:
            waiting.append(pool.submit(_encode_in_worker, portion))
            if len(waiting) > MAX_QUEUED * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_assigned: tuple[Tokenizer, str]
"""A worker's tokenizer and the type of its ids."""


def _begin_worker(folder: Path, dtype: str, run_first: str) -> None:
    """Make a new process ready: it leaves Ctrl-C to its parent, and ends when that does, however it ended."""
    global _assigned
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if run_first:
        runpy.run_path(run_first)
    _assigned = load_tokenizer(folder), dtype


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode_in_worker(portion: Chunk) -> Encoded:
    return encode(portion, *_assigned)
