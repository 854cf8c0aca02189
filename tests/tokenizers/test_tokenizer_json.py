"""Byte-level BPE of current families has the ids of the `tokenizers` library.

The tokenizers are trained here in each style.
"""

import json
import random
import unicodedata

import pytest
from sentencepiece_style import sentencepiece
from tokenizer_texts import SCRIPTS

from llm_scratch.errors import DATA, UserError
from llm_scratch.interop.hf_tokenizer import read_start_id
from llm_scratch.tokenizers import ByteBPE, load_tokenizer, save_tokenizer
from llm_scratch.tokenizers.bpe_files import NotOurs, checked_parts
from llm_scratch.tokenizers.patterns import PATTERNS
from llm_scratch.tokenizers.vocabulary import printable

tokenizers = pytest.importorskip("tokenizers", reason="the reference; install the hf extra")
CORPUS = [
    *SCRIPTS,
    "The cat's 12345 tokens, HTTPServer's camelCase don't\n\n  x += 1;\r\n\tIt'll",
] * 4
SPECIAL, ADDED = ["<|endoftext|>", "<|im_end|>"], ["<think>", "   "]


def split(pattern):
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def byte_level(use_regex):
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


STYLES = {
    "olmo": (byte_level(True), None),
    "llama-bpe": (sequence(split(PATTERNS["llama-bpe"]), byte_level(False)), None),
    "qwen2": (sequence(split(PATTERNS["qwen2"]), byte_level(False)), {"type": "NFC"}),
    "gpt-4o": (sequence(split(PATTERNS["gpt-4o"]), byte_level(False)), None),
    "tekken": (sequence(split(PATTERNS["tekken"]), byte_level(False)), None),
    "smollm": (sequence({"type": "Digits", "individual_digits": True}, byte_level(True)), None),
    "deepseek-v3": (sequence(*map(split, PATTERNS["deepseek-v3"]), byte_level(False)), None),
    "a pattern with gaps": (sequence(split(r"\p{L}+"), byte_level(False)), None),
}
"""name -> pre_tokenizer and normalizer"""


@pytest.fixture(scope="module", params=STYLES)
def trained(request):
    """The content of a tokenizer.json that the library trained, by style."""
    before, normalizer = STYLES[request.param]
    base = tokenizers.Tokenizer(tokenizers.models.BPE())
    data = json.loads(base.to_str())
    library = tokenizers.Tokenizer.from_str(
        json.dumps(data | {"pre_tokenizer": before, "normalizer": normalizer})
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(CORPUS, trainer)
    library.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in ADDED])
    return json.loads(library.to_str())


def texts(n=300):
    draw = random.Random(5)
    letters = [
        *map(chr, range(0x20, 0x7F)),
        *"\n\n\r\t  éßжяअ中文日本한😀👩‍🚀\u00a0\u0301\u212bǅªſ٣²Ⅳ",
    ]
    pieces = [*letters, *SPECIAL, *ADDED, "'LL", " 2026", "HTTPServer"]
    return [*CORPUS[:20], *("".join(draw.choices(pieces, k=draw.randrange(60))) for _ in range(n))]


def assert_equal(ours, library):
    for text in texts():
        want = library.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, allowed_special="all") == want, text
        assert ours.encode_python(text, allowed_special="all") == want, text
        kept = unicodedata.normalize("NFC", text) if ours.nfc else text
        assert unicodedata.normalize("NFC", ours.decode(want)) == unicodedata.normalize("NFC", kept)


def test_tokenizer_json_ids_equal_the_library(trained, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(trained))
    library, ours = tokenizers.Tokenizer.from_str(json.dumps(trained)), load_tokenizer(tmp_path)
    assert isinstance(ours, ByteBPE)
    assert_equal(ours, library)
    save_tokenizer(ours, tmp_path / "again")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert_equal(ours, again)
    back = load_tokenizer(tmp_path / "again")
    assert back.splitter.pattern == ours.splitter.pattern
    assert back.added_tokens == ours.added_tokens == {name: 500 + i for i, name in enumerate(ADDED)}


def test_special_tokens_are_text_unless_allowed_and_added_ones_are_always_tokens(tmp_path):
    tokenizer = ByteBPE([], special_tokens={"<|end|>": 256}, added_tokens={"<think>": 257})
    assert tokenizer.encode("<think>a<|end|>")[0] == 257
    assert 256 not in tokenizer.encode("<think>a<|end|>")
    assert tokenizer.encode("<think>a<|end|>", allowed_special="all") == [257, 64, 256]


def ranks_as_merges(tokens):
    """A vocabulary as in files made from tiktoken's ranks: every split of each token."""
    names = [printable(bytes([i])) for i in range(256)] + [printable(token) for token in tokens]
    merges = [
        [name[:i], name[i:]]
        for name in names
        for i in range(1, len(name))
        if name[:i] in names and name[i:] in names
    ]
    return {
        "model": {
            "type": "BPE",
            "ignore_merges": True,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": merges,
        },
        "pre_tokenizer": byte_level(True),
    }


def test_vocabularies_of_tiktoken_with_every_split_give_the_same_ids(tmp_path):
    """Also with ".:.:" before its half ".:.", as in Llama 3, and "abcd", which no merge reaches."""
    tokens = [b".:", b":.", b"xx", b".:.:", b"xxxx", b".:.", b"xxx", b"bc", b"ab", b"cd", b"abcd"]
    data = ranks_as_merges(tokens)
    assert len(data["model"]["merges"]) > len(tokens)
    library = tokenizers.Tokenizer.from_str(json.dumps({"version": "1.0"} | data))
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    ours = load_tokenizer(tmp_path)
    assert set(ours.unmerged) == {b"abcd"}
    draw = random.Random(7)
    for _ in range(3000):
        text = "".join(draw.choices(".:abcdx ", k=draw.randrange(1, 12)))
        assert ours.encode(text) == library.encode(text).ids, text
    assert ours.encode("abcd") == [256 + len(tokens) - 1]
    assert len(ours.encode("abcdx")) == 4


def test_merge_that_cannot_be_moved_is_left_to_the_library():
    """ "aba" is made of "ab" and "a", which the next "ab" may need, and has a lower rank."""
    names = [printable(bytes([i])) for i in range(256)] + ["aba", "ab"]
    with pytest.raises(NotOurs, match="merge of 'ab' before it is made"):
        checked_parts({name: i for i, name in enumerate(names)}, [["ab", "a"], ["a", "b"]], {})


@pytest.mark.parametrize(
    "change",
    [
        {"post_processor": ["BertProcessing"]},
        {"post_processor": {"type": "TemplateProcessing", "single": 7}},
        {"added_tokens": [{"id": 256, "content": "<|endoftext|>"}, {"id": 257, "content": 7}]},
        {"added_tokens": [{"id": 256, "content": "<|endoftext|>"}, {"id": 257, "content": ""}]},
        {
            "added_tokens": [
                {"id": 256, "content": "<|endoftext|>"},
                {"id": 257, "content": "\ud800"},
            ]
        },
        {"pre_tokenizer": sequence(split(["a"]), byte_level(False))},
        {"model": {"type": ["BPE"]}},
    ],
    ids=str,
)
def test_damaged_tokenizer_json_is_refused_by_name(change, tmp_path):
    ByteBPE(()).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"tokenizer\.json") as caught:
        load_tokenizer(tmp_path).encode("a")
    assert caught.value.code == DATA


def test_damaged_post_processor_of_a_library_tokenizer_is_named(tmp_path):
    data = sentencepiece("Llama") | {"post_processor": {"type": "Sequence"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    for read in (load_tokenizer, read_start_id):
        with pytest.raises(UserError, match=r"tokenizer\.json: its post_processor is damaged"):
            read(tmp_path)


def test_damaged_merges_are_refused():
    names = {printable(bytes([i])): i for i in range(256)} | {"ab": 256, "zz": 257}
    for merges, reason in (
        ([["a", "b"], ["a", "b"]], "1 merges occur twice"),
        ([["a", "c"]], "the token 'ac' of a merge has no id"),
        ([["a", "b"]], "'zz' is neither the result of a merge nor special"),
    ):
        with pytest.raises(UserError, match=reason):
            checked_parts(names, merges, {})
