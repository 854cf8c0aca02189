"""Pre-tokens do not depend on units and chunks, and both regex libraries agree."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections import Counter

import hypothesis.strategies as st
import pytest
import regex
import tiktoken
from hypothesis import given, settings
from tokenizer_texts import SCRIPTS, code_texts, random_texts

from llm_scratch.tokenizers import pretokens
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN, Splitter, matches_engine, same_pattern

ORIGINAL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ANY = [*SCRIPTS, *code_texts()[:200], *random_texts(3000, seed=5)]


def test_units_cut_into_pieces_as_the_original_pattern_cuts_the_text():
    splitter, original = Splitter(), regex.compile(ORIGINAL)
    for text in ANY:
        assert "".join(splitter.units(text)) == text
        pieces = [piece for unit in splitter.units(text) for piece in splitter.pieces(unit)]
        assert "".join(pieces) == text
        plain = matches_engine(text)
        assert [len(piece) for piece in pieces] == [
            len(piece) for piece in original.findall(plain)
        ], text


@settings(max_examples=1000, deadline=None)
@given(st.text(st.characters(max_codepoint=127) | st.sampled_from(" \n'a1.sl"), max_size=40))
def test_ascii_pattern_splits_like_the_full_pattern(text):
    assert (
        pretokens._ASCII.findall(text)
        == regex.findall(GPT2_PATTERN, text)
        == regex.findall(ORIGINAL, text)
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(" \n\x1c\xa0a1.'sé", max_size=12), max_size=12), st.integers(1, 9))
def test_chunks_change_no_piece(texts, size):
    splitter = Splitter()
    chunks = list(splitter.chunks(texts, size))
    assert "".join(chunks) == "".join(texts)
    pieces = [piece for chunk in chunks for piece in regex.findall(ORIGINAL, chunk)]
    assert pieces == regex.findall(ORIGINAL, "".join(texts))


def test_chunks_are_bounded_where_there_are_spaces():
    sizes = [len(chunk) for chunk in Splitter().chunks(iter(["word "] * 3000), 1000)]
    assert max(sizes) <= 1010
    assert [len(chunk) for chunk in Splitter().chunks(["ab" * 3000, " x" * 9000], 1000)][0] == 7998
    assert list(Splitter(r"\w").chunks(["a b ", "c d"], 2)) == ["a b c d"]


def test_character_classes_equal_the_engines():
    """All code points of the planes in use, and some of each other."""
    everything = "".join(
        map(chr, [*range(0xD800), *range(0xE000, 0x34000), *range(0x34000, sys.maxunicode, 99)])
    )
    plain = matches_engine(everything)
    assert len(plain) == len(everything)
    for kind in (r"\p{L}", r"\p{N}", r"\s", r"[^\s\p{L}\p{N}]"):
        vocabulary = {bytes([i]): i for i in range(256)}
        engine = tiktoken.Encoding(
            "kind", pat_str=kind, mergeable_ranks=vocabulary, special_tokens={}
        )
        theirs = set(bytes(engine.encode_ordinary(everything)).decode())
        ours = {everything[match.start()] for match in regex.finditer(kind, plain)}
        assert ours == theirs, kind


def test_placeholders_are_used_only_where_the_libraries_differ():
    matches_engine("é中١👍")
    assert not {ord(character) for character in "é中١👍aZ09 "} & set(pretokens._placeholders)
    assert all(
        unicodedata.category(stand_in) in ("Lo", "No", "Po")
        for stand_in in pretokens._placeholders.values()
    )


def test_counts_do_not_depend_on_the_algorithm(verdict):
    splitter = Splitter()
    want = Counter(regex.findall(ORIGINAL, verdict))
    assert splitter.count([verdict]) == want
    assert sum(splitter.count(random.Random(0).sample(SCRIPTS, 9)).values()) > 0
    long = verdict * 60
    assert len(long) > pretokens.CHUNK
    assert splitter.count([long]) == Counter(regex.findall(ORIGINAL, long))


def test_counting_without_workers_gives_the_same_counts(monkeypatch):
    def no_semaphores(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("llm_scratch.storage.worker_processes.ProcessPoolExecutor", no_semaphores)
    with pytest.warns(RuntimeWarning, match="using this process"):
        assert Splitter().count(["a b a"], 2) == Splitter().count(["a b a"])


@pytest.mark.parametrize("processes", [1, 2])
def test_counting_reports_progress(verdict, monkeypatch, processes):
    monkeypatch.setattr(pretokens, "CHUNK", 1000)
    ticks = []
    Splitter().count([verdict], processes, ticks.append)
    assert len(ticks) >= 4
    assert sum(ticks) == len(verdict)


@pytest.mark.parametrize("pattern", sorted(pretokens._SAME_CUTS))
def test_equivalent_spellings_of_the_pattern_are_recognized(pattern):
    assert same_pattern(pattern) == GPT2_PATTERN
    for text in ANY[:300]:
        assert regex.findall(pattern, text) == regex.findall(GPT2_PATTERN, text)


def test_splitter_completes_a_pattern_that_skips_characters():
    splitter = Splitter(r"(a|b)+")
    assert splitter.units("ab,ba") == ["ab", ",", "ba"]
    assert splitter.pieces("ab") == ["ab"]
    assert Splitter(splitter.pattern).pattern == splitter.pattern
