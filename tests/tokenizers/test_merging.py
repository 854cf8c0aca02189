"""The merge rule: its two implementations agree with each other and with tiktoken."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from llm_scratch.tokenizers.bpe_train import learn_merges
from llm_scratch.tokenizers.merging import BYTES, merge_long, merge_piece, pairs, symbols


def rules(texts: dict[str, int]) -> tuple[dict[str, str], dict[str, str]]:
    pair_of = {chr(256 + i): pair for i, pair in enumerate(learn_merges(texts, 30))}
    return {pair: new for new, pair in pair_of.items()}, pair_of


def one_by_one(word: str, joined: dict[str, str]) -> str:
    """Encode by the definition of BPE: merge the first place of the earliest pair, repeat."""
    while True:
        found = [(joined[pair], i) for i, pair in enumerate(pairs(word)) if pair in joined]
        if not found:
            return word
        new, i = min(found)
        word = word[:i] + new + word[i + 2 :]


def test_symbols_number_bytes_as_gpt2_does():
    assert sorted(BYTES) == list(range(256))
    assert symbols(b"!~ a") == chr(0) + chr(93) + chr(220) + chr(64)
    assert list(pairs("abc")) == ["ab", "bc"]
    assert list(pairs("a")) == list(pairs("")) == []


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=15), st.integers(1, 9), max_size=8),
    st.text("abc", max_size=80),
)
def test_merge_piece_and_merge_long_equal_single_merges(texts, piece):
    joined, pair_of = rules(texts)
    word = symbols(piece.encode())
    want = one_by_one(word, joined)
    assert merge_piece(word, joined, pair_of) == want
    assert merge_long(word, joined, pair_of) == want
