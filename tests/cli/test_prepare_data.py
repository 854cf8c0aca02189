"""`data prepare`, `check` and `show` write and verify shards; training reads them.

Preparation resumes; errors are one line.
"""

from __future__ import annotations

import os
import re
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from llm_scratch.cli.commands.prepare_data import PrepareProgress, parse_count, remove_shards
from llm_scratch.data import readers
from llm_scratch.data.shards import ShardProgress
from llm_scratch.errors import DATA, USAGE, UserError

TRAIN = """
    train shakespeare --data.source shards:out --data.val-fraction 0.2 --model.vocab-size 17
    --model.context-length 16 --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1
    --train.steps 2 --train.batch-size 2 --train.eval-batches 1 --train.warmup-steps 1
    --train.sample-every 0 --out run"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Skip disk flushes."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture
def prepare(llm, text_file):
    """The command on the small text, in characters."""
    return lambda *words: llm(
        "data", "prepare", text_file, "--out", "out", "--tokenizer", "chars", *words
    )


def test_prepare_check_train_and_write(prepare, llm):
    made = prepare("--shard-tokens", "1k")
    assert made.code == 0, made.err
    assert "out: 2,697 tokens of 1 document in 3 shards, 1.00 bytes a token" in made.out
    assert (
        "train on it: llm-scratch train shakespeare --data.source shards:out --model.vocab-size 17"
        in made.out
    )
    assert llm("data", "check", "out").out == "out: 2,697 tokens in 3 shards, no damage found\n"
    trained = llm(*TRAIN.split())
    assert trained.code == 0, trained.err
    assert "2,157 training tokens, 540 validation tokens, 1.00 bytes a token" in trained.out
    assert llm("evaluate", "run").code == 0
    assert llm("generate", "run", "the", "--max-tokens", "3").code == 0
    assert "the hen sat on the red mat" in llm("data", "show", "shards:out").out


def test_show_reads_the_index_and_the_first_words(llm, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a hen"}\n{"text": ""}\n{"text": "a fox"}\n')
    llm("data", "prepare", "a.jsonl", "--out", "out", "--tokenizer", "chars", "--shard-tokens", "9")
    out = llm("data", "show", "shards:out").out
    for what, value in (
        ("source", "a.jsonl"),
        ("documents", "2, 1 empty skipped"),
        ("tokens", "13, 0.77 bytes each"),
    ):
        assert re.search(rf"^{what} +{re.escape(value)} *$", out, re.M), out
    assert re.search(r"^shards +2 of 9 tokens as uint16 *$", out, re.M)
    assert "a hen" in out
    assert "fox" not in out


def test_prepare_of_complete_shards_does_nothing(prepare):
    prepare()
    again = prepare()
    assert again.code == 0
    assert "nothing to do: the shards are complete; --fresh starts over" in again.out


def test_prepare_resumes_after_ctrl_c(prepare, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 300)
    real = PrepareProgress.on_progress

    def stop(self, done, tokens):
        if tokens > 1500:
            raise KeyboardInterrupt

    monkeypatch.setattr(PrepareProgress, "on_progress", stop)
    stopped = prepare("--shard-tokens", "500", "--workers", "1")
    assert stopped.code == 130
    assert (
        stopped.err
        == "llm-scratch: stopped; 1,500 tokens are kept in out; run the same command again to"
        " resume\n"
    )
    monkeypatch.setattr(PrepareProgress, "on_progress", real)
    again = prepare("--shard-tokens", "500", "--workers", "1")
    assert again.out.startswith(
        "resuming after 1,500 tokens\nout: 2,697 tokens of 1 document in 6 shards"
    )


def test_prepare_with_other_settings_needs_fresh(prepare, tmp_path):
    prepare()
    other = prepare("--shard-tokens", "1k")
    assert other.code == DATA
    assert (
        "holds other shards: shard_tokens was 100000000 and is now 1000; choose another folder, or"
        " --fresh" in other.err
    )
    fresh = prepare("--shard-tokens", "1k", "--fresh")
    assert fresh.out.startswith("removed the shards that were in out\nout: 2,697 tokens")
    assert "all was there" not in fresh.out


def test_fresh_removes_shards_and_nothing_else(tmp_path):
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(
        UserError, match="holds more than shards, such as 'thesis.doc'; remove it yourself"
    ) as error:
        remove_shards(tmp_path, Console(file=StringIO()))
    assert error.value.code == DATA
    assert (tmp_path / "index.json").exists()
    remove_shards(tmp_path / "none", Console(file=StringIO()))


def test_data_check_finds_a_damaged_shard(prepare, llm, tmp_path):
    prepare()
    shard = tmp_path / "out" / "shard-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x07")
    found = llm("data", "check", "out")
    assert found.code == DATA
    assert re.match(
        r"llm-scratch: out/shard-00000.bin is damaged: .*; run `llm-scratch data prepare` again"
        r" with --fresh\n",
        found.err,
    )


def test_prepare_uses_the_tokenizer_of_a_run(trained, text_file, llm):
    made = llm("data", "prepare", text_file, "--out", "out", "--tokenizer", trained)
    assert made.code == 0, made.err
    assert "--model.vocab-size 17" in made.out


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (
            ("--shard-tokens", "many"),
            "--shard-tokens is 'many'; expected a whole number such as 500k or 100M",
            USAGE,
        ),
        (("--workers", "-1"), "--workers: -1 is out of range", USAGE),
        (("--tokenizer", "words"), "loses the white space between words", USAGE),
        (("--vocab-size", "999"), "vocab_size=999: no effect with chars", USAGE),
    ],
)
def test_prepare_rejects_invalid_arguments(prepare, words, message, code):
    result = prepare(*words)
    assert (result.code, message in result.err) == (code, True), result.err


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("500k", 500_000), ("100M", 10**8), ("2g", 2 * 10**9), ("1_000", 1000)],
)
def test_parse_count_accepts_suffixes(text, number):
    assert parse_count("--n", text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "k", "1T"])
def test_parse_count_rejects_other_text(text):
    with pytest.raises(UserError, match="expected a whole number"):
        parse_count("--n", text)


@pytest.mark.parametrize(("terminal", "width"), [(True, 80), (False, 80), (True, 40), (True, 20)])
def test_prepare_progress_shows_bytes_and_speed(terminal, width):
    screen = Console(file=StringIO(), force_terminal=terminal, width=width, color_system=None)
    with PrepareProgress(screen, every=0) as reading:
        reading.on_start(4_000_000, SimpleNamespace(tokens=0, complete=False, done=ShardProgress()))
        reading.on_progress(ShardProgress(source_bytes=1_000_000), 250_000)
        reading.bar.refresh()
    output = " ".join(screen.file.getvalue().split())
    assert "977 KiB of 3.81 MiB" in output
    assert "250k tokens" in output
    assert "…" not in output.replace("tokenizer …", "")
