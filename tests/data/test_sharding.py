"""Shards have equal bytes for any number of workers and interruptions.

No partial files are left.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.data import readers
from llm_scratch.data.corpus import encode_documents
from llm_scratch.data.readers import open_source
from llm_scratch.data.sharding import make_shards
from llm_scratch.data.shards import ShardIndex, check_shards, open_shards
from llm_scratch.data.sources import read
from llm_scratch.errors import DATA, INTERRUPTED, RESOURCES, USAGE, UserError
from llm_scratch.storage import files
from llm_scratch.tokenizers import TOKENIZERS, ByteBPE, CharTokenizer, load_tokenizer


@pytest.fixture
def small(monkeypatch):
    """Use chunks of 256 bytes instead of a megabyte, and skip disk flushes."""
    monkeypatch.setattr(readers, "CHUNK_BYTES", 256)
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture
def stories(tmp_path):
    """18 documents of several lengths, one per line."""
    rng = random.Random(1)
    words = [
        "the",
        "hen",
        "and",
        "a",
        "fox",
        "ran",
        "off",
        "to",
        "sea",
        "<|endoftext|>",
        "東京",
        "été",
    ]
    texts = [
        " ".join(rng.choices(words, k=rng.choice([1, 5, 200]))) + f" {n} of {n * n}"
        for n in range(18)
    ]
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(small, stories, tmp_path):
    """The folder of an uninterrupted preparation."""
    make_shards(stories, tmp_path / "whole", "chars", shard_tokens=1000)
    return tmp_path / "whole"


# Results.


@pytest.mark.parametrize("shard_tokens", [1, 37, 1000, 10**9])
def test_shards_have_the_tokens_of_the_corpus(small, stories, tmp_path, shard_tokens):
    if shard_tokens == 1:
        Path(stories).write_text('{"text": "one"}\n{"text": "two"}\n')
    index = make_shards(stories, tmp_path / "out", "chars", shard_tokens=shard_tokens)
    row, _ = open_shards(tmp_path / "out")
    documents = read(f"file:{stories}")
    want = encode_documents(documents, TOKENIZERS["chars"](documents))
    assert np.array_equal(np.asarray(row), want)
    assert index.tokens == len(want)
    assert all(shard.tokens == shard_tokens for shard in index.shards[:-1])
    assert index.done.documents == len(documents)
    assert read(f"shards:{tmp_path}/out") == documents
    list(check_shards(tmp_path / "out"))


def test_shards_of_gpt2_have_the_ids_of_tiktoken(small, gpt2, stories, tmp_path):
    index = make_shards(stories, tmp_path / "out", "gpt2", shard_tokens=500)
    want = [
        i for text in read(f"file:{stories}") for i in (gpt2.eot_token, *gpt2.encode_ordinary(text))
    ]
    assert np.asarray(open_shards(tmp_path / "out")[0]).tolist() == [*want, gpt2.eot_token]
    assert (index.dtype, index.n_vocab, index.eot) == ("uint16", 50257, 50256)


def test_sharding_trains_the_vocabulary_on_the_first_half(small, stories, tmp_path):
    make_shards(stories, tmp_path / "out", "bpe", vocab_size=300)
    documents = read(f"file:{stories}")
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.n_vocab == 300
    room, head = Path(stories).stat().st_size // 2, []
    for text in documents:
        head.append(text.encode()[:room].decode("utf-8", "ignore"))
        room -= len(head[-1].encode())
    assert tokenizer.vocabulary.symbol == ByteBPE.train(head, 300).vocabulary.symbol
    assert read(f"shards:{tmp_path}/out") == documents


def test_sharding_uses_a_given_tokenizer(small, tmp_path):
    (tmp_path / "a.txt").write_text("a b")
    make_shards(str(tmp_path / "a.txt"), tmp_path / "out", CharTokenizer("ab "))
    assert np.asarray(open_shards(tmp_path / "out")[0]).tolist() == [3, 0, 2, 1, 3]
    with pytest.raises(UserError, match="tokenizer was 'sha256:.*' and is now 'sha256:"):
        make_shards(str(tmp_path / "a.txt"), tmp_path / "out", CharTokenizer("abc "))


def test_shards_keep_the_token_that_ends_a_document(small, tmp_path):
    names = ("<|endoftext|>", "<|im_end|>")
    tokenizer = ByteBPE((), special_tokens=names, end_of_text=names[1])
    (tmp_path / "a.txt").write_text("a b")
    index = make_shards(str(tmp_path / "a.txt"), tmp_path / "out", tokenizer)
    ids = np.asarray(open_shards(tmp_path / "out")[0]).tolist()
    assert (ids[0], ids[-1], index.eot) == (257,) * 3
    assert load_tokenizer(tmp_path / "out").eot_token == 257


def test_documents_without_a_letter_are_left_out_and_counted(small, tmp_path):
    for name, text in {"a.txt": "", "b.txt": "one", "c.txt": ""}.items():
        (tmp_path / name).write_text(text)
    index = make_shards(f"file:{tmp_path}/*.txt", tmp_path / "out", "chars")
    assert (index.done.documents, index.done.empty) == (1, 2)
    assert read(f"shards:{tmp_path}/out") == ["one"]


# Stopped and resumed.


def test_any_number_of_workers_gives_the_same_files(tmp_path):
    (tmp_path / "a.txt").write_text(
        "".join(f"{n} hens and {n * n} foxes.\n" for n in range(150_000))
    )
    folders = [tmp_path / f"{workers} workers" for workers in (1, 3)]
    for folder, workers in zip(folders, (1, 3)):
        make_shards(
            str(tmp_path / "a.txt"), folder, "chars", shard_tokens=1_000_000, workers=workers
        )
    assert content(folders[0]) == content(folders[1])


class Killed(BaseException):
    """Simulates the end of the process without any cleanup."""


class Dying(files.FileSystem):
    """A disk that kills the process before operation `at`, or inside a write if `torn`."""

    def __init__(self, at: int, torn: bool) -> None:
        self.left, self.torn = at, torn

    def spend(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    def make_folder(self, path):
        self.spend()
        super().make_folder(path)

    def write(self, path, pieces):
        pieces = list(pieces)
        if self.left == 0 and self.torn:
            path.write_bytes(b"".join(pieces)[:7])
        self.spend()
        super().write(path, pieces)

    def flush(self, path):
        self.spend()

    def rename(self, old, new):
        self.spend()
        super().rename(old, new)

    def remove(self, path):
        if self.left >= 0:  # a dead process removes nothing
            super().remove(path)


@pytest.mark.parametrize("torn", [False, True])
def test_make_shards_resumes_after_kill_at_any_disk_operation(
    whole, stories, tmp_path, monkeypatch, torn
):
    """Go through every state that a kill can leave; each ends with the same files."""
    want, states = content(whole), 0
    for at in range(1000):
        folder = tmp_path / f"killed {at}"
        with monkeypatch.context() as patch:
            patch.setattr(files, "filesystem", Dying(at, torn))
            patch.setattr(os, "getpid", lambda: 7)  # another process than the one that continues
            try:
                make_shards(stories, folder, "chars", shard_tokens=1000)
                break
            except Killed:
                states += 1
        index = folder / "index.json"
        if index.exists():
            for shard in ShardIndex.load(folder).shards:
                assert (folder / shard.file).read_bytes() == want[shard.file]
        make_shards(stories, folder, "chars", shard_tokens=1000)
        assert content(folder) == want, f"killed before operation {at}"
    n_shards = len(want) - 2
    assert states == 5 * (
        3 + 2 * n_shards
    )  # tokenizer (twice), index; each shard, index: five operations per file


COMMAND = """
import sys
from llm_scratch.data import readers
from llm_scratch.data.sharding import make_shards
readers.CHUNK_BYTES = 2000
make_shards(sys.argv[1], sys.argv[2], "chars", shard_tokens=10_000)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_make_shards_resumes_after_random_kills(tmp_path):
    """Kill a real process with SIGKILL six times, after seconds drawn from a printed seed."""
    (tmp_path / "a.txt").write_text("".join(f"{n} hens and {n * n} foxes.\n" for n in range(9000)))
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "a.txt")]
    subprocess.run([*words, str(tmp_path / "whole")], check=True, timeout=PATIENCE_SECONDS)
    seed = random.randrange(10**6)
    rng, done, kills = random.Random(seed), 0, 0
    while kills < 6:
        child = subprocess.Popen([*words, str(tmp_path / "out")])
        before = done
        while child.poll() is None and done <= before:  # at least one more shard, so that it ends
            done = len(list((tmp_path / "out").glob("shard-*")))
        try:
            child.wait(rng.uniform(0, 0.03))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            kills += 1
        if child.wait() == 0:
            break
    subprocess.run([*words, str(tmp_path / "out")], check=True, timeout=PATIENCE_SECONDS)
    assert kills, f"seed {seed}: never killed"
    assert content(tmp_path / "out") == content(tmp_path / "whole"), f"seed {seed}"


def test_make_shards_leaves_complete_folder_unchanged(whole, stories, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    monkeypatch.setattr(files, "filesystem", Dying(0, False))
    assert make_shards(stories, whole, "chars", shard_tokens=1000).complete
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_make_shards_ctrl_c_reports_kept_tokens(small, stories, tmp_path):
    def stop(done, tokens):
        if tokens > 2500:
            raise KeyboardInterrupt

    with pytest.raises(
        UserError,
        match=r"stopped; 2,000 tokens are kept in .*; run the same command again to resume",
    ) as error:
        make_shards(stories, tmp_path / "out", "chars", shard_tokens=1000, on_progress=stop)
    assert error.value.code == INTERRUPTED
    assert not list((tmp_path / "out").glob(".*"))


def test_progress_counts_the_bytes_of_the_source(small, stories, tmp_path):
    seen = []
    index = make_shards(
        stories,
        tmp_path / "out",
        "chars",
        shard_tokens=1000,
        on_progress=lambda done, tokens: seen.append((done, tokens)),
    )
    assert [done.source_bytes for done, _ in seen] == sorted(
        {done.source_bytes for done, _ in seen}
    )
    assert seen[-1][0].source_bytes == open_source(stories).size
    assert seen[-1][1] == index.tokens - 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path):
    """Eight times the text takes no more memory, workers included, and far less than 1 GiB."""
    peaks = []
    for n_bytes in (24_000_000, 192_000_000):
        block = "".join(f"{n} hens and {n * n} foxes.\n" for n in range(50_000)).encode()
        with (tmp_path / "a.txt").open("wb") as file:
            for _ in range(n_bytes // len(block)):
                file.write(block)
        words = [
            "data",
            "prepare",
            str(tmp_path / "a.txt"),
            "--out",
            str(tmp_path / "out"),
            "--tokenizer",
            "chars",
            "--workers",
            "2",
        ]
        command = psutil.Popen(
            [sys.executable, "-m", "llm_scratch", *words, "--shard-tokens", "20M", "--fresh"]
        )
        peak = 0
        while command.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(
                    peak,
                    sum(
                        process.memory_info().rss
                        for process in [command, *command.children(recursive=True)]
                    ),
                )
            time.sleep(0.02)
        assert command.returncode == 0
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 2**30


# Errors.


def test_sharding_on_a_full_disk_leaves_no_partial_shard(whole, stories, tmp_path, monkeypatch):
    class Full(files.FileSystem):
        def write(self, path, pieces):
            if "shard-00002" in path.name:
                path.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(path, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(files, "filesystem", Full())
        with pytest.raises(
            UserError,
            match=r"cannot write .*shard-00002.bin: No space left on device; free disk space",
        ) as error:
            make_shards(stories, tmp_path / "out", "chars", shard_tokens=1000)
    assert error.value.code == RESOURCES
    assert sorted(content(tmp_path / "out")) == [
        "index.json",
        "shard-00000.bin",
        "shard-00001.bin",
        "tokenizer.json",
    ]
    make_shards(stories, tmp_path / "out", "chars", shard_tokens=1000)
    assert content(tmp_path / "out") == content(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shard_tokens": 999}, "shard_tokens was 1000 and is now 999"),
        ({"tokenizer": "bpe", "vocab_size": 300}, "tokenizer was 'chars' and is now 'bpe'"),
        ({"field": "body"}, "field was 'text' and is now 'body'"),
    ],
)
def test_sharding_rejects_a_folder_with_other_settings(whole, stories, change, message):
    before = content(whole)
    with pytest.raises(
        UserError, match=f"holds other shards: {message}; choose another folder, or --fresh"
    ) as error:
        make_shards(stories, whole, **{"tokenizer": "chars", "shard_tokens": 1000, **change})
    assert error.value.code == DATA
    assert content(whole) == before


def test_sharding_rejects_a_changed_source(whole, stories):
    with open(stories, "a") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(
        UserError, match="holds other shards: source .* had .* bytes or other file names"
    ):
        make_shards(stories, whole, "chars", shard_tokens=1000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "shard-00001.bin").write_bytes(b"x"),
            "shard-00001.bin has 1 bytes, not 2,000",
        ),
        (lambda folder: (folder / "shard-00001.bin").unlink(), "shard-00001.bin is missing"),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "tokenizer.json changed since the first shard",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot read .*tokenizer.json"),
        (
            lambda folder: (folder / "index.json").unlink(),
            "holds other files, such as 'shard-00000.bin'; choose a new",
        ),
    ],
)
def test_make_shards_does_not_resume_damaged_folder(whole, stories, damage, message):
    damage(whole)
    with pytest.raises(UserError, match=message) as error:
        make_shards(stories, whole, "chars", shard_tokens=1000)
    assert error.value.code == DATA


@pytest.mark.parametrize("text", ["", '{"text": ""}\n\n'])
def test_sharding_rejects_a_source_without_text(small, tmp_path, text):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match="holds no text; expected at least one document") as error:
        make_shards(str(tmp_path / "a.jsonl"), tmp_path / "out", CharTokenizer("ab"))
    assert error.value.code == DATA


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer": "gpt3"}, "unknown tokenizer 'gpt3'; did you mean 'gpt2'"),
        ({"tokenizer": "words"}, "loses the white space between words"),
        ({"tokenizer": "chars", "vocab_size": 5}, "vocab_size=5: no effect with chars"),
        ({"shard_tokens": 0}, "shard_tokens=0 and workers=1 must both be at least 1"),
        ({"workers": 0}, "workers=0 must both be at least 1"),
    ],
)
def test_make_shards_rejects_unsupported_settings(small, stories, tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as error:
        make_shards(stories, tmp_path / "out", **settings)
    assert error.value.code == USAGE
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["", "file:"])
def test_sharding_rejects_an_output_folder_inside_the_source(small, stories, tmp_path, kind):
    with pytest.raises(UserError, match="is inside its own source"):
        make_shards(f"{kind}{tmp_path}", tmp_path / "a" / "out")
