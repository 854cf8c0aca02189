"""Chunks become ids in order, with their counts, for any number of processes.

The processes end with their parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from effort import wait_until

from llm_scratch.data.encoding import END, encode, encode_all
from llm_scratch.data.readers import Texts
from llm_scratch.data.shards import ShardProgress
from llm_scratch.errors import DATA, RESOURCES, UserError
from llm_scratch.tokenizers import ByteBPE, CharTokenizer, save_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A folder with a tokenizer of characters."""
    save_tokenizer(CharTokenizer("abcdefghijklmnopqrstuvwxyz <|>é\n"), tmp_path)
    return tmp_path


def test_encoding_puts_end_of_text_before_each_document():
    tokenizer = CharTokenizer("ab é")
    found = encode((Texts(("ab", "", "é"), 9), Texts(("b",), 3)), tokenizer, "uint16")
    eot = tokenizer.eot_token
    assert found.ids.tolist() == [eot, 0, 1, eot, 3, eot, 1]
    assert found.ids.dtype == np.uint16
    assert found.progress == ShardProgress(
        1, 0, documents=3, empty=1, text_bytes=5, source_bytes=12
    )
    assert not found.last
    last = encode(END, tokenizer, "uint16")
    assert (last.ids.tolist(), last.progress, last.last) == ([eot], ShardProgress(1), True)


def test_special_token_in_text_is_text():
    tokenizer = ByteBPE.train(["say it " * 9], 258)
    ids = encode((Texts(("say <|endoftext|>",), 17),), tokenizer, "uint16").ids
    assert (ids == tokenizer.eot_token).sum() == 1
    assert tokenizer.decode(ids[1:].tolist()) == "say <|endoftext|>"


def test_encoding_by_several_processes_equals_one(folder):
    portions = [
        (Texts((f"portion {chr(97 + n)} " * (1 if n % 5 else 20_000),), 9),) for n in range(20)
    ] + [END]
    one, three = ([*encode_all(portions, folder, "uint16", workers)] for workers in (1, 3))
    assert len(one) == len(three) == 21
    for a, b in zip(one, three):
        assert np.array_equal(a.ids, b.ids)
        assert (a.progress, a.last) == (b.progress, b.last)


@pytest.mark.parametrize("workers", [1, 2])
def test_encoding_raises_the_error_of_a_worker(folder, workers):
    with pytest.raises(
        UserError, match=r"the character 'Z' \(U\+005A\) was not in the training text"
    ) as error:
        list(encode_all([(Texts(("abZ",), 3),)] * 9, folder, "uint16", workers))
    assert error.value.code == DATA


def test_encoding_fails_at_once_when_a_worker_is_killed(folder):
    found = encode_all([(Texts(("ab",), 2),)] * 50, folder, "uint16", 2)
    next(found)
    for child in psutil.Process().children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    with pytest.raises(
        UserError, match=r"a worker was killed \(SIGKILL, possibly out of memory\)"
    ) as error:
        list(found)
    assert error.value.code == RESOURCES


def test_encoding_without_workers_gives_the_same_ids(folder, monkeypatch):
    portions = [(Texts(("ab", "ba"), 4),), END]
    want = [one.ids.tolist() for one in encode_all(portions, folder, "uint16", 1)]
    monkeypatch.setattr("llm_scratch.storage.worker_processes.ProcessPoolExecutor", _no_semaphores)
    with pytest.warns(RuntimeWarning, match="using this process"):
        assert [one.ids.tolist() for one in encode_all(portions, folder, "uint16", 2)] == want


def _no_semaphores(*_):
    raise OSError(38, "Function not implemented")


def test_workers_import_the_users_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from llm_scratch.tokenizers import MODEL_TYPES,"
        " CharTokenizer\nMODEL_TYPES['mine'] = lambda data, path: CharTokenizer('xyz')\n"
    )
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "mine"}}')
    found = encode_all(
        [(Texts(("zx",), 2),), END], tmp_path, "uint16", 2, str(tmp_path / "mine.py")
    )
    assert [one.ids.tolist() for one in found] == [[3, 2, 0], [3]]


PARENT = """
import sys
from llm_scratch.data.encoding import encode_all
from llm_scratch.data.readers import Texts
if __name__ == "__main__":
    found = encode_all([(Texts(("ab",), 2),)] * 1000, sys.argv[1], "uint16", 2)
    next(found)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_workers_end_when_their_parent_is_killed(folder):
    (folder / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, folder / "parent.py", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout.readline() == "ready\n"

    def started() -> list[psutil.Process]:
        children = psutil.Process(parent.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    wait_until(lambda: len(started()) == 2, "both workers start")
    workers = started()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    def ended(worker: psutil.Process) -> bool:
        return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE

    wait_until(lambda: all(map(ended, workers)), "the workers end")
