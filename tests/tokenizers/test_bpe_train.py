"""BPE training equals a recount after each merge and the tokenizers library.

All algorithms agree.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from effort import at_most
from hypothesis import given, settings

from llm_scratch.data.sources import read
from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE, bpe_train, pretokens
from llm_scratch.tokenizers.bpe_train import learn_merges
from llm_scratch.tokenizers.merging import BYTES
from llm_scratch.tokenizers.pretokens import Splitter


def count_anew(counts: Counter[str], n_merges: int) -> list[tuple[int, int]]:
    """Train BPE by its definition: count every pair, merge the most frequent one, repeat."""
    words = [([BYTES.index(byte) for byte in piece.encode()], n) for piece, n in counts.items()]
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        seen: Counter[tuple[int, int]] = Counter()
        for word, n in words:
            for pair in zip(word, word[1:]):
                seen[pair] += n
        if not seen:
            break
        best = min(seen, key=lambda pair: (-seen[pair], pair))
        new = 256 + len(merges)
        for word, _ in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [new]
                i += 1
        merges.append(best)
    return merges


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text("abé", min_size=1, max_size=12), st.integers(1, 5), max_size=12),
    st.integers(0, 40),
)
def test_train_merges_equal_recounting(counts, n):
    assert [tuple(map(ord, pair)) for pair in learn_merges(counts, n)] == count_anew(
        Counter(counts), n
    )


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text("abé", min_size=1, max_size=30), st.integers(1, 5), max_size=8),
    st.integers(0, 40),
    st.sampled_from([1, 2, 5, 12]),
)
def test_chains_of_long_words_equal_a_recount(counts, n, min_chain):
    """Treat words from 1 to 12 bytes on as long words, so that all or some of them are chains."""
    with patch.object(bpe_train, "MIN_CHAIN", min_chain):
        learned = learn_merges(counts, n)
    assert [tuple(map(ord, pair)) for pair in learned] == count_anew(Counter(counts), n)


@pytest.mark.parametrize("word", ["a" * 300, "ab" * 200, "aab" * 120, "abcab" * 50 + "a"])
def test_merges_of_a_long_word_equal_recounting(word):
    assert [tuple(map(ord, pair)) for pair in learn_merges({word: 2, "ab": 1}, 30)] == count_anew(
        Counter({word: 2, "ab": 1}), 30
    )


def random_letters(n):
    return "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=n))


def test_work_on_one_long_word_grows_with_its_length_and_not_with_its_square():
    """Each of thousands of merges once copied a whole word of a million letters."""
    lines = []
    for n in (2000, 8000):
        with at_most(lines=200 * n) as effort:
            learn_merges({random_letters(n): 1}, n // 10)
        lines.append(effort.lines)
    assert lines[1] < 6 * lines[0]  # 4.7 times; 10.8 with strings


def test_training_on_real_text_equals_a_recount(verdict):
    counts = Splitter().count([verdict])
    assert [tuple(map(ord, pair)) for pair in learn_merges(counts, 60)] == count_anew(counts, 60)


def test_trained_merges_equal_the_tokenizers_library(data_dir, tmp_path):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="needs the tokenizers library: pip install tokenizers"
    )
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")[:300_000]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    theirs.pre_tokenizer = byte_level(add_prefix_space=False)
    theirs.train_from_iterator(
        [text],
        tokenizers.trainers.BpeTrainer(
            vocab_size=2000, initial_alphabet=byte_level.alphabet(), show_progress=False
        ),
    )
    ByteBPE.train([text], 2000, special_tokens=()).save(tmp_path)
    ours = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    assert ours["merges"] == json.loads(theirs.to_str())["model"]["merges"]
    assert ours["vocab"] == theirs.get_vocab()


def digest(tokenizer: ByteBPE) -> str:
    return hashlib.sha256(repr(tokenizer.merges).encode()).hexdigest()


def test_t6_shuffled_texts_and_two_processes_give_identical_merges(verdict, monkeypatch, measured):
    texts = verdict.split("\n\n")
    shuffled = random.Random(1).sample(texts, len(texts))
    want = digest(ByteBPE.train(texts, 500))
    assert digest(ByteBPE.train(iter(shuffled), 500)) == want
    monkeypatch.setattr(pretokens, "CHUNK", 1000)
    batches = len(list(Splitter()._batches(texts)))
    assert batches >= 4, "two processes must have counts to add"
    assert digest(ByteBPE.train(texts, 500, processes=2)) == want
    assert digest(ByteBPE.train(shuffled, 500, processes=2)) == want
    assert digest(ByteBPE.train(texts[:-1], 500)) != want
    measured(
        "T6",
        f"equal SHA-256 of the merges: shuffled texts, 1 and 2 processes ({batches} batches)",
        "equal SHA-256",
    )


def test_t6_shuffled_files_give_identical_merges(data_dir, tmp_path, measured):
    speeches = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8").split("\n\n")
    files = ["\n\n".join(speeches[i::20]) for i in range(20)]
    digests = set()
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for place, text in enumerate(random.Random(turn).sample(files, len(files))):
            (folder / f"{place:02}.txt").write_text(text, encoding="utf-8")
        texts = read(f"file:{folder}/*.txt")
        assert len(texts) == len(files)
        digests.add(digest(ByteBPE.train(texts, 1000)))
    assert len(digests) == 1
    measured("T6", "equal SHA-256 of the merges: 20 files in 3 orders", "equal SHA-256")


def test_merge_ties_choose_the_smaller_token():
    assert ByteBPE.train(["ba ab"], 259).merges == [(b"a", b"b"), (b"b", b"a")]
    assert ByteBPE.train(["zz yy"], 258).merges == [(b"y", b"y")]


def test_overlapping_pairs_are_counted_and_merged_from_the_left():
    assert learn_merges({"aaa": 1}, 5) == ["\x40\x40", "\u0100\x40"]
    assert BYTES[0x40:0x41] == b"a"


def test_merges_do_not_cross_a_special_token():
    text = "ab<|endoftext|>" * 50 + "cd"
    assert ByteBPE.train([text], 259).merges == [(b"a", b"b"), (b"c", b"d")]
    assert (b"c", b"d") not in ByteBPE.train([text], 259, special_tokens=("<|other|>",)).merges


def test_training_on_a_small_text_warns_and_returns_fewer_tokens():
    with pytest.warns(UserWarning, match="vocab_size=4096: the text has pairs for only 259 tokens"):
        tokenizer = ByteBPE.train(["abc"], 4096)
    assert (tokenizer.n_vocab, tokenizer.eot_token) == (259, 258)
    assert ByteBPE.train([], 257).n_vocab == 257


@pytest.mark.parametrize("size", [256, 0, -1, 1_000_001])
def test_training_rejects_an_impossible_vocabulary_size(size):
    with pytest.raises(
        UserError, match=f"vocab_size: {size} is out of range; give a whole number from 257"
    ):
        ByteBPE.train(["abc"], size)


def test_training_accepts_another_pattern_and_names_its_errors():
    tokenizer = ByteBPE.train(["aXbXaXb"], 259, pattern=r"[a-z]X")
    assert tokenizer.merges[0] == (b"a", b"X")
    assert tokenizer.decode(tokenizer.encode("aXb!?")) == "aXb!?"
    with pytest.raises(UserError, match="is not a regular expression"):
        ByteBPE.train(["a"], 260, pattern="(")
    with pytest.raises(UserError, match="must be a name without spaces"):
        ByteBPE.train(["a"], 260, special_tokens=("< end>",))


def test_training_draws_no_bar_on_a_narrow_terminal(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    ByteBPE.train(["abcabc"], 259, progress=True)
    assert capfd.readouterr() == ("", "")


def test_progress_draws_a_bar_on_stderr(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ByteBPE.train(["abcabc"], 259, progress=True)
    captured = capfd.readouterr()
    assert "characters" in captured.err
    assert "merges" in captured.err
    assert captured.out == ""
