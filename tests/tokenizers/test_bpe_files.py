"""T5 and the file formats: equal ids after a round trip.

Damaged or hostile files are rejected quickly.
"""

from __future__ import annotations

import json

import pytest
from effort import at_most
from tokenizer_texts import SCRIPTS

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE
from llm_scratch.tokenizers.bpe_files import GPT2_SHA256
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.tokenizer_json import prefix_id, read_tokenizer_json

VERDICT = "I HAD always thought Jack Gisburn rather a cheap genius--though a good fellow enough"


def vocab_of(merges: list[str]) -> dict[str, int]:
    """encoder.json for some merges."""
    from llm_scratch.tokenizers.vocabulary import _CHARACTERS

    names = _CHARACTERS + [merge.replace(" ", "") for merge in merges] + ["<|endoftext|>"]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


@pytest.fixture
def write(tmp_path):
    def write(merges: list[str], vocab: dict[str, int] | None = None):
        rows, names = tmp_path / "vocab.bpe", tmp_path / "encoder.json"
        rows.write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        names.write_text(json.dumps(vocab_of(merges) if vocab is None else vocab), encoding="utf-8")
        return rows, names

    return write


MAX_LINES = 20_000  # of Python: some 10 for each of the 256 bytes, and the rest of the reading
QUICKLY = f"refused after at most {MAX_LINES:,} executed lines of Python"


def expect_refused(match: str, *paths, load=ByteBPE.from_gpt2_files, **keywords) -> None:
    with at_most(lines=MAX_LINES), pytest.raises(UserError, match=match) as caught:
        load(*paths, **keywords)
    assert caught.value.code == 3


def test_gpt2_files_are_read(write):
    tokenizer = ByteBPE.from_gpt2_files(*write(["Ġ t", "h e", "Ġt he"]))
    assert tokenizer.merges == [(b" ", b"t"), (b"h", b"e"), (b" t", b"he")]
    assert tokenizer.encode(" the") == tokenizer.encode_python(" the") == [258]
    assert tokenizer.special_tokens == {"<|endoftext|>": 259}


def test_t5_cycles_duplicates_and_gaps_are_refused(write, measured):
    expect_refused(
        "merge 1 uses 'bc', which is neither a byte nor the result of an earlier merge",
        *write(["a bc", "b ca", "c ab"]),
    )
    expect_refused("merge 2 makes 'ab', which already exists", *write(["a b", "a b"]))
    expect_refused(
        "merge 3 makes 'abc', which already exists", *write(["a b", "ab c", "a bc"][:2] + ["ab c"])
    )
    expect_refused("merge 3, 'ab' and 'c', can never occur", *write(["b c", "a b", "ab c"]))
    good = ["a b", "ab c"]
    vocab = vocab_of(good)
    expect_refused("not 0 to 258, each once", *write(good, vocab | {"abc": 300}))
    expect_refused("not 0 to 258, each once", *write(good, vocab | {"abc": 0}))
    expect_refused("not 0 to 258, each once", *write(good, vocab | {"abc": True}))
    expect_refused("not 0 to 258, each once", *write(good, vocab | {"abc": "257"}))
    expect_refused("'abc' has no id", *write(good, vocab_of(["a b"])))
    expect_refused("'abc' is neither the result of a merge nor special", *write(["a b"], vocab))
    expect_refused("expected two tokens", *write(["a b c"]))
    expect_refused("not a token in GPT-2's spelling", *write(["a \t"], vocab))
    measured("T5", "12 of 12 refused", QUICKLY)


def test_t5_broken_files_are_refused(write, tmp_path, measured):
    rows, names = write(["a b"])
    expect_refused("sha256 [0-9a-f]{64}, expected", rows, names, sha256=GPT2_SHA256)
    expect_refused("No such file", tmp_path / "none", names)
    expect_refused("Is a directory", tmp_path, names)
    names.write_text('{"a": 0, "a": 1}')
    expect_refused("duplicate key 'a'", rows, names)
    for text, reason in (
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
        ("\x00\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ):
        names.write_text(text, encoding="utf-8")
        expect_refused(reason, rows, names)
    measured("T5", "8 of 8 refused", QUICKLY)


def test_t5_ten_million_rows_are_refused_early(write, tmp_path, measured):
    rows, names = write(["a b"])
    rows.write_bytes(b"a b\n" * 10_000_000)
    expect_refused("10,000,000 lines", rows, names)
    rows.write_bytes(b"#version\n")
    names.write_bytes(b'{"a":0' + b',"b":1' * 10_000_000 + b"}")
    expect_refused("a vocabulary has at most", rows, names)
    (tmp_path / "tokenizer.json").write_bytes(
        b'{"model": {"merges": [' + b'"a b",' * 10_000_000 + b'"a b"]}}'
    )
    expect_refused("a vocabulary has at most", tmp_path, load=ByteBPE.load)
    measured("T5", "3 of 3 refused", QUICKLY)


def test_t5_duplicate_name_is_found_in_one_pass(write, tmp_path, measured):
    """The duplicate is the last of 100,000 names: a search by name takes 5 billion comparisons."""
    n_names = 100_000
    rows, names = write(["a b"])
    text = "{" + "".join(f'"{i}":0,' for i in range(n_names)) + f'"{n_names - 1}":1}}'
    names.write_text(text)
    (tmp_path / "tokenizer.json").write_text(f'{{"model": {{"vocab": {text}}}}}')
    for paths, load in (((rows, names), ByteBPE.from_gpt2_files), ((tmp_path,), ByteBPE.load)):
        one_pass = at_most(lines=10 * n_names, comparisons=n_names)
        with one_pass, pytest.raises(UserError, match=f"duplicate key '{n_names - 1}'"):
            load(*paths)
    measured(
        "T5",
        f"a duplicate at the end of {n_names:,} names is found",
        "at most one comparison per name",
    )


def test_gpt2_tokenizer_survives_a_round_trip_with_equal_ids(ours, gpt2, tmp_path):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="needs the tokenizers library: pip install tokenizers"
    )
    assert ByteBPE.from_tiktoken(gpt2).merges == ours.merges
    ours.save(tmp_path)
    again = ByteBPE.load(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert (again.merges, again.special_tokens, again.n_vocab) == (
        ours.merges,
        ours.special_tokens,
        50257,
    )
    for text in SCRIPTS:
        want = gpt2.encode(text, allowed_special="all")
        assert again.encode(text, allowed_special="all") == want
        assert theirs.encode(text).ids == want
        assert theirs.decode(want, skip_special_tokens=False) == text


def test_tokenizer_json_of_the_tokenizers_library_is_read(verdict, tmp_path):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="needs the tokenizers library: pip install tokenizers"
    )
    pre = tokenizers.pre_tokenizers
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|pad|>"],
        show_progress=False,
    )
    split = pre.Split(tokenizers.Regex(r" ?\p{L}+|\s+|[^\s\p{L}]"), "isolated")
    for cutter in (
        pre.ByteLevel(add_prefix_space=False),
        pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
    ):
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
        theirs.pre_tokenizer = cutter
        theirs.train_from_iterator([verdict], trainer)
        theirs.save(str(tmp_path / "tokenizer.json"))
        read = ByteBPE.load(tmp_path / "tokenizer.json")
        assert read.special_tokens == {"<|endoftext|>": 0, "<|pad|>": 1}
        assert read.n_vocab == 500
        for text in (verdict, VERDICT, *SCRIPTS[:10]):
            assert read.encode(text) == read.encode_python(text) == theirs.encode(text).ids
        read.save(tmp_path / "again")
        assert ByteBPE.load(tmp_path / "again").encode(verdict) == read.encode(verdict)
        again = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
        assert again.encode(verdict).ids == read.encode(verdict)


def test_tokenizer_json_with_other_rules_is_rejected(small, tmp_path):
    small.save(tmp_path)
    good = json.loads((tmp_path / "tokenizer.json").read_text())
    assert ByteBPE.load(tmp_path).splitter.pattern == GPT2_PATTERN
    foreign = {"id": 599, "content": "<|endoftext|>", "lstrip": True}
    for match, change in {
        "has normalizer=": {"normalizer": {"type": "NFKC"}},
        "has dropout=0.1": {"model": good["model"] | {"dropout": 0.1}},
        "it has a WordPiece model": {"model": good["model"] | {"type": "WordPiece"}},
        "adds tokens to each text": {"post_processor": {"type": "TemplateProcessing"}},
        "without add_prefix_space": {
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}
        },
        "has a pre_tokenizer that does not end": {"pre_tokenizer": {"type": "Whitespace"}},
        "has a pre_tokenizer with Punctuation": {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Punctuation"}, good["pre_tokenizer"]],
            }
        },
        "has lstrip of the added token": {"added_tokens": [foreign]},
        "is not a tokenizer.json with byte-level BPE": {"pre_tokenizer": None},
        "no .model.": {"model": []},
        r"KeyError: 'merges'": {"model": {"type": "BPE", "vocab": {}}},
    }.items():
        (tmp_path / "tokenizer.json").write_text(json.dumps(good | change))
        expect_refused(match, tmp_path, load=ByteBPE.load)
    alone = [
        {"Sequence": {"id": "A", "type_id": 0}}
    ]  # as transformers 5 writes it: the text, and nothing before or after
    special = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    before = [special, *alone]  # the token that a model's rows begin with: it belongs to the model
    for pieces, match in (
        (alone, ""),
        (before, ""),
        ([*alone, special], "adds tokens to each text"),
        ([*before, special], "adds tokens"),
    ):
        names = {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [599], "tokens": ["<|endoftext|>"]}
        }
        template = {
            "type": "TemplateProcessing",
            "single": pieces,
            "pair": [],
            "special_tokens": names,
        }
        for after in (
            template,
            {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]},
        ):
            (tmp_path / "tokenizer.json").write_text(json.dumps(good | {"post_processor": after}))
            if match:
                expect_refused(match, tmp_path, load=ByteBPE.load)
            else:
                assert ByteBPE.load(tmp_path).encode("the theater") == small.encode("the theater")
                assert prefix_id(*read_tokenizer_json(tmp_path)) == (
                    599 if pieces is before else None
                )


def test_save_keeps_the_old_file_after_a_disk_error(small, tmp_path, monkeypatch):
    small.save(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match="No space left") as caught:
        small.save(tmp_path)
    assert caught.value.code == 6
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_from_tiktoken_rejects_an_encoding_without_byte_pairs():
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)}
    for broken, reason in (
        (ranks | {b"abc": 256}, "not a pair of earlier tokens"),
        ({b"a": 0}, "no token for the byte 33"),
    ):
        encoding = tiktoken.Encoding(
            "broken", pat_str=GPT2_PATTERN, mergeable_ranks=broken, special_tokens={}
        )
        expect_refused(reason, encoding, load=ByteBPE.from_tiktoken)
