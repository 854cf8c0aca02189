"""SentencePiece's kinds of tokenizers: ids equal to transformers', and bytes that join up."""

import json
import pickle
import random

import pytest
from tokenizer_texts import SCRIPTS

from llm_scratch.errors import UserError
from llm_scratch.interop.hf_tokenizer import read_start_id, write_tokenizer
from llm_scratch.tokenizers import LibraryTokenizer, load_tokenizer, save_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the reference; install the hf extra")
transformers = pytest.importorskip("transformers", reason="the reference; install the hf extra")
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def sentencepiece(kind):
    """A tokenizer.json in the style of Llama 2 (BPE), Gemma (BPE) or T5 (Unigram)."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoder = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if kind == "Unigram":
        model = tokenizers.models.Unigram()
        trainer = tokenizers.trainers.UnigramTrainer(
            vocab_size=300,
            special_tokens=[*SPECIAL, *BYTES],
            unk_token="<unk>",
            show_progress=False,
        )
    else:
        model = tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=600, special_tokens=[*SPECIAL, *BYTES], show_progress=False
        )
    library = tokenizers.Tokenizer(model)
    library.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    library.pre_tokenizer = tokenizers.pre_tokenizers.Split("\u2581", "merged_with_next")
    library.train_from_iterator(SCRIPTS[:12] * 3, trainer)
    data = json.loads(library.to_str())
    data["added_tokens"] = [row for row in data["added_tokens"] if row["content"] in SPECIAL]
    data["pre_tokenizer"] = None
    if kind == "Unigram":
        data["model"]["byte_fallback"] = True
    if kind == "Gemma":
        data |= {"normalizer": replace, "decoder": {"type": "Sequence", "decoders": decoder}}
    else:
        steps = [{"type": "Prepend", "prepend": "\u2581"}, replace]
        data["normalizer"] = {"type": "Sequence", "normalizers": steps}
        data["decoder"] = {"type": "Sequence", "decoders": [*decoder, strip]}
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return data


@pytest.fixture(scope="module", params=["Llama", "Gemma", "Unigram"])
def folder(request, tmp_path_factory):
    """A folder of Hugging Face with such a tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tokenizer.json").write_text(json.dumps(sentencepiece(request.param)))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "unk_token": "<unk>",
        "eos_token": {"__type": "AddedToken", "content": "</s>"},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def texts(n=200):
    draw = random.Random(3)
    letters = [*map(chr, range(0x20, 0x7F)), *"\n\t  éßжяअ中文日本😀👩‍🚀\u00a0\u0301ǅ", *SPECIAL]
    return [
        *SCRIPTS[:14],
        *("".join(draw.choices(letters, k=draw.randrange(40))) for _ in range(n)),
    ]


def test_ids_equal_transformers_and_stay_equal_in_a_run_and_an_export(folder, tmp_path):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert isinstance(ours, LibraryTokenizer)
    assert (ours.eot_token, ours.n_vocab) == (2, len(theirs))
    assert read_start_id(folder) == 1
    save_tokenizer(ours, tmp_path / "run")
    back = load_tokenizer(tmp_path / "run")
    assert (back.end_of_text, back.chat_template) == ("</s>", TEMPLATE)
    (tmp_path / "out").mkdir()
    write_tokenizer(back, tmp_path / "out", 64, start_id=1)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (again.chat_template, again.bos_token, again.eos_token) == (TEMPLATE, "<s>", "</s>")
    for text in texts():
        want = theirs(text)["input_ids"]
        for tokenizer in (ours, back):
            assert [1, *tokenizer.encode(text, allowed_special="all")] == want, text
        assert again(text)["input_ids"] == want, text


def test_texts_come_back_and_bytes_join_up(folder):
    tokenizer = load_tokenizer(folder)
    for text in texts():
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == b"".join(tokenizer.decode_bytes([i]) for i in ids)
    with pytest.raises(ValueError, match="not in this vocabulary"):
        tokenizer.decode([tokenizer.n_vocab])


def test_special_tokens_are_text_unless_allowed(folder):
    tokenizer = load_tokenizer(folder)
    assert 2 not in tokenizer.encode("a</s>b")
    assert 2 in tokenizer.encode("a</s>b", allowed_special={"</s>"})
    with pytest.raises(ValueError, match="<s>"):
        tokenizer.encode("<s>a</s>", allowed_special={"</s>"})
    with pytest.raises(ValueError, match="</s>"):
        tokenizer.encode("a</s>", disallowed_special="all")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("a cat") == tokenizer.encode("a cat")


def test_a_file_that_the_library_cannot_read_is_named(folder, tmp_path):
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"] = 7
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"tokenizer.json: .*cannot read this tokenizer"):
        load_tokenizer(tmp_path)
