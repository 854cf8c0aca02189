"""ByteBPE equals tiktoken on every text, in both directions.

Bytes round-trip, and the worst inputs take linear time.
"""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from effort import PATIENCE_SECONDS, at_most
from hypothesis import given, settings
from tokenizer_texts import SCRIPTS, WORST, code_texts, library_source, random_texts, worst

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE
from llm_scratch.tokenizers.merging import PieceCache, merge_piece, symbols

# ------------------------------------------------------------------------------------------------
# T1: round trip


EVERYTHING = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))


def test_t1_every_code_point_survives_a_round_trip(ours, small, measured):
    assert len(EVERYTHING) == 1_112_064
    assert ours.decode(ours.encode(EVERYTHING)) == EVERYTHING
    sample = EVERYTHING[:3000] + EVERYTHING[::29]
    assert ours.decode(ours.encode_python(sample)) == sample
    assert small.decode(small.encode_python(sample)) == sample
    measured(
        "T1", f"{len(EVERYTHING):,} with the engine, {len(sample):,} in Python", "every code point"
    )


@pytest.mark.slow
def test_t1_every_code_point_survives_a_round_trip_in_python(ours, small, measured):
    for tokenizer in (ours, small):
        ids = tokenizer.encode_python(EVERYTHING)
        assert ids == tokenizer.encode(EVERYTHING)
        assert tokenizer.decode(ids) == EVERYTHING
    measured("T1", f"{len(EVERYTHING):,} in Python, two vocabularies", "every code point")


def assert_bytes_come_back(tokenizer: ByteBPE, n: int) -> None:
    """Encode n random byte strings by the merges alone, and as text of one character a byte."""
    known, rng = tokenizer.vocabulary, random.Random(n)
    for _ in range(n):
        data = rng.randbytes(rng.randrange(32))
        word = known.longest_first(data)
        assert word == merge_piece(symbols(data), known.joined, known.pair_of)
        assert tokenizer.decode_bytes([tokenizer._id[symbol] for symbol in word]) == data
        assert (
            tokenizer.decode(tokenizer.encode_python(data.decode("latin-1"))).encode("latin-1")
            == data
        )


def test_t1_byte_strings_survive_a_round_trip(ours, measured):
    assert_bytes_come_back(ours, 2000)
    measured("T1", "2,000 random byte strings", "all round-trip")


@pytest.mark.slow
def test_t1_200000_byte_strings_survive_a_round_trip(ours, measured):
    assert_bytes_come_back(ours, 200_000)
    measured("T1", "200,000 random byte strings", "all round-trip")


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=200))
def test_t1_any_bytes_survive_a_round_trip(data, small):
    """Bytes that are not UTF-8 cannot be text, but ids can hold them, alone or beside text."""
    byte_ids = [small.vocabulary.symbol[bytes([byte])] for byte in data]
    assert small.decode_bytes([small._id[symbol] for symbol in byte_ids]) == data
    text = data.decode("utf-8", "replace")
    assert small.decode_bytes(small.encode(text)) == text.encode()
    assert (
        small.decode_bytes(small.encode_python(data.decode("latin-1"))).decode().encode("latin-1")
        == data
    )


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=80))
def test_t1_any_text_survives_a_round_trip(text, small, ours):
    for tokenizer in (small, ours):
        ids = tokenizer.encode(text)
        assert ids == tokenizer.encode_python(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_t1_nul_bom_and_half_surrogates(ours, gpt2):
    for text in ("\0", "\ufeffa", "a\0\ufeff"):
        assert ours.decode(ours.encode(text)) == text
    for text in ("\ud800", "a\udc00b", "\ud83d\ude00", "\ude00\ud83d"):
        want = gpt2.encode(text, disallowed_special=())
        assert ours.encode(text) == ours.encode_python(text) == want
        assert ours.decode(want) == text.encode("utf-16", "surrogatepass").decode(
            "utf-16", "replace"
        )


def test_incomplete_character_is_replaced_or_an_error_as_requested(ours):
    half = ours.encode("é")[:1] if len(ours.encode("é")) > 1 else ours.encode("👍")[:1]
    assert ours.decode(half).endswith("\ufffd")
    with pytest.raises(UnicodeDecodeError):
        ours.decode(half, errors="strict")
    assert ours.decode_bytes(half) == ours.token_bytes(half[0])


# ------------------------------------------------------------------------------------------------
# T2: equal ids


def test_t2_ids_of_10000_texts_equal_tiktoken(ours, gpt2, measured):
    texts = SCRIPTS + code_texts() + random_texts(10_000) + [worst("word", 1_000_000)]
    assert len(texts) > 10_000
    for text in texts:
        want = gpt2.encode_ordinary(text)
        assert ours.encode(text) == want, text[:100]
        assert ours.encode_python(text) == want, text[:100]
        assert ours.decode(want) == text
    measured("T2", f"{len(texts):,} texts, engine and Python", "equal ids on 10,000 texts")


def test_t2_trained_vocabulary_gives_equal_ids_in_every_implementation(small, tmp_path):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="needs the tokenizers library: pip install tokenizers"
    )
    small.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in SCRIPTS + code_texts()[:300] + random_texts(1000, seed=3):
        if "<|endoftext|>" in text:
            continue
        ids = small.encode(text)
        assert small.encode_python(text) == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text
        if (
            text.isascii() or text in SCRIPTS
        ):  # the library's Unicode is older than the texts drawn at random
            assert theirs.encode(text).ids == ids, text


def mixed_texts(data_dir, source: int, n_seeds: int) -> str:
    """Return source code, Shakespeare, and random texts in every script, drawn from a seed."""
    shakespeare = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")[:source]
    drawn = ["\n".join(random_texts(5000, seed)) for seed in range(100, 100 + n_seeds)]
    return "\n".join([library_source(source), shakespeare, *SCRIPTS, *drawn])


def test_t2_ids_of_a_megabyte_of_scripts_and_code_equal_tiktoken(ours, gpt2, data_dir, measured):
    text = mixed_texts(data_dir, 400_000, 1)
    size = len(text.encode())
    assert size > 1_000_000
    assert ours.encode_python(text) == ours.encode(text) == gpt2.encode_ordinary(text)
    measured("T2", f"{size / 1e6:.1f} MB, engine and Python", "equal ids")


@pytest.mark.slow
def test_t2_ids_of_10_megabytes_of_scripts_and_code_equal_tiktoken(ours, gpt2, data_dir, measured):
    text = mixed_texts(data_dir, 5_000_000, 15)
    size = len(text.encode())
    assert size > 10_000_000
    assert ours.encode_python(text) == ours.encode(text) == gpt2.encode_ordinary(text)
    measured("T2", f"{size / 1e6:.1f} MB, engine and Python", "equal ids on 10 MB")


def test_parts_of_a_text_give_the_ids_of_the_text(ours, data_dir):
    with (data_dir / "tinyshakespeare.txt").open(encoding="utf-8") as file:
        lines = file.readlines()[:20_000] + ["\n", "\n", "  \n", "'", "ll end", "<|endof", "text|>"]
    whole = "".join(lines)
    assert list(ours.encode_iterable(iter(lines))) == ours.encode(whole)
    assert list(ours.encode_iterable(lines, allowed_special="all")) == ours.encode(
        whole, allowed_special="all"
    )
    assert list(ours.encode_iterable([])) == []


def test_encoding_of_parts_is_lazy(small):
    read = 0

    def parts():
        nonlocal read
        for read in range(1, 2000):  # noqa: B007
            yield "some words and more of them, " * 200
        raise AssertionError("everything was read at once")

    ids = small.encode_iterable(parts())
    next(ids)
    assert 0 < read < 1000


# ------------------------------------------------------------------------------------------------
# T3: worst inputs


LINES_PER_BYTE = 30  # of Python, that `encode_python` executes at most: up to 23 are needed


class PythonDict(dict):
    """A dict whose lookups are lines of Python, which `at_most` counts for C callers as well."""

    def get(self, key, default=None):
        return dict.get(self, key, default)


@pytest.mark.parametrize("name", WORST)
def test_t3_worst_inputs_are_linear_in_python_with_equal_ids(
    ours, gpt2, name, monkeypatch, measured
):
    """Twice the bytes take twice the lookups and executed lines."""
    for table in ("joined", "symbol"):
        monkeypatch.setattr(ours.vocabulary, table, PythonDict(getattr(ours.vocabulary, table)))
    lines = []
    for n_bytes in (20_000, 40_000):
        ours.clear_cache()
        text = worst(name, n_bytes)
        with at_most(lines=LINES_PER_BYTE * n_bytes) as effort:
            ids = ours.encode_python(text)
        assert ids == ours.encode(text) == gpt2.encode_ordinary(text)
        lines.append(effort.lines)
    assert lines[1] <= 2.2 * lines[0], lines
    measured(
        "T3",
        f"{name}, in Python: {lines[1] / 40_000:.0f} lines per byte,"
        f" {lines[1] / lines[0]:.1f} times those of half the input",
        f"at most {LINES_PER_BYTE} executed lines per byte, 2.2 times",
    )


MEGABYTES = """
import sys
sys.path.insert(0, sys.argv[1])
from tokenizer_texts import WORST, worst
from llm_scratch.tokenizers import ByteBPE

tokenizer = ByteBPE.from_gpt2_files(*sys.argv[2:])
cut = tokenizer.splitter
for name in WORST:
    text = worst(name, 1_000_000)
    assert tokenizer.decode(tokenizer.encode(text)) == text, name
    assert "".join(piece for unit in cut.units(text) for piece in cut.pieces(unit)) == text, name
    print(name, flush=True)
"""


def test_t3_worst_inputs_of_a_megabyte_terminate(gpt2_files, measured):
    """Their steps cannot be counted, but quadratic time would take hours."""
    command = [sys.executable, "-c", MEGABYTES, str(Path(__file__).parent), *map(str, gpt2_files)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == WORST
    measured(
        "T3",
        f"{len(WORST)} inputs of 1 MB, engine and regular expressions",
        "no hang",
    )


def seconds(encode, text: str) -> float:
    start = time.process_time()
    encode(text)
    return time.process_time() - start


# seconds that new memory and other load may cost; quadratic time would be many seconds
FLOOR = 0.02


def growth(tokenizer: ByteBPE, encode, name: str, n: int) -> tuple[float, float]:
    """Return processor seconds for n bytes and for twice as many.

    It is the best of two rounds, or of nine on a busy machine.
    """
    texts = worst(name, n), worst(name, 2 * n)
    best = [math.inf, math.inf]
    for turn in range(9):
        for which, text in enumerate(texts):
            tokenizer.clear_cache()
            best[which] = min(best[which], seconds(encode, text))
        if turn >= 1 and best[1] <= 2.5 * best[0] + FLOOR:
            break
    return best[0], best[1]


@pytest.mark.timing
@pytest.mark.parametrize("name", WORST)
def test_t3_worst_inputs_take_a_second_per_megabyte(ours, name, measured):
    # the engine's heap for longer texts leaves the processor's cache: n log n then takes 3 times
    n = 125_000 if name == "word" else 500_000
    half, whole = growth(ours, ours.encode, name, n // 2)
    assert whole <= 2.5 * half + FLOOR, (half, whole)
    speed = seconds(ours.encode, worst(name, 1_000_000))
    assert speed <= 1
    measured(
        "T3",
        f"{name}: {speed:.2f} s per MB; {n:,} bytes take {whole / half:.1f} times as long as half",
        "1 s per MB; at most 2.5 times",
    )


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize("name", WORST)
def test_t3_worst_inputs_of_a_megabyte_in_python(ours, name, measured):
    text = worst(name, 1_000_000)
    assert ours.encode_python(text) == ours.encode(text)
    if name != "word":  # there the engine's own heap leaves the cache, as above
        half, whole = growth(ours, ours.encode, name, 250_000)
        assert whole <= 2.5 * half + FLOOR, (half, whole)
    half, whole = growth(ours, ours.encode_python, name, 500_000)
    assert whole <= 10
    assert whole <= 2.5 * half + FLOOR, (half, whole)
    measured(
        "T3",
        f"{name}, in Python: {whole:.2f} s per MB, {whole / half:.1f} times as long as half",
        "10 s per MB; at most 2.5 times",
    )


def test_t3_million_spaces_do_not_overflow_the_engine(small, capfd):
    """tiktoken 0.14's pattern overflows its stack on a million spaces."""
    text = "a" + " " * 1_050_000 + "a"
    assert small.decode(small.encode(text)) == text
    assert "panicked" not in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------
# the rest


def test_bpe_names_and_sizes_equal_those_of_tiktoken(ours, gpt2):
    assert (
        (ours.n_vocab, ours.eot_token, ours.name)
        == (gpt2.n_vocab, gpt2.eot_token, gpt2.name)
        == (50257, 50256, "gpt2")
    )
    assert ours.special_tokens == {"<|endoftext|>": 50256}
    assert ours.encode("hello world") == [31373, 995]
    assert ours.merges[:2] == [(b" ", b"t"), (b" ", b"a")]
    assert all(ours.token_bytes(i) == gpt2.decode_single_token_bytes(i) for i in range(50257))
    assert ours.decode_tokens_bytes([31373, 995]) == [b"hello", b" world"]


def test_decode_rejects_an_id_outside_the_vocabulary(small):
    for wrong in (600, -1, 10**9):
        with pytest.raises(ValueError, match=f"id {wrong} is not in this vocabulary of 600 tokens"):
            small.decode([0, wrong])


def test_bpe_accepts_ids_in_any_order(small):
    """tiktoken's engine needs ids in merge order; other ids are encoded in Python."""
    turned = {token: 599 - ord(symbol) for token, symbol in small.vocabulary.symbol.items()}
    tokenizer = ByteBPE(small.merges, ids=turned, special_tokens={"<|endoftext|>": 0})
    assert tokenizer._engine is None
    text = "I had always thought Jack Gisburn rather a cheap genius"
    assert [599 - i for i in tokenizer.encode(text)] == small.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_encode_falls_back_to_python_after_a_panic_of_the_engine(small, monkeypatch):
    class PanicException(BaseException):
        pass

    class Engine:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def encode_ordinary(self, text: str) -> list[int]:
            raise self.error

    want = small.encode("so it was no great surprise")
    monkeypatch.setitem(small.__dict__, "_engine", Engine(PanicException))
    assert small.encode("so it was no great surprise") == want
    monkeypatch.setitem(small.__dict__, "_engine", Engine(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        small.encode("so")


def test_bpe_rejects_two_tokens_with_one_id(small):
    with pytest.raises(UserError, match="600 tokens have only 599 ids"):
        ByteBPE(small.merges, special_tokens={"<|endoftext|>": 5})
    with pytest.raises(UserError, match="tiktoken cannot parse the pattern"):
        ByteBPE(small.merges, pattern=r"\m").encode("ab")


def test_pickled_bpe_encodes_equally(small):
    small.encode_python("warm")
    copy = pickle.loads(pickle.dumps(small))
    assert copy.encode("a copy") == copy.encode_python("a copy") == small.encode("a copy")
    assert not copy._units.keys() - {"a", " copy"}


def test_piece_cache_is_bounded():
    memory = PieceCache(lambda unit: (len(unit),), limit=3)
    assert [memory[unit] for unit in ("a", "bb", "ccc", "dddd")] == [(1,), (2,), (3,), (4,)]
    assert list(memory) == ["dddd"]
    assert memory["x" * 65] == (65,)
    assert len(memory) == 1
