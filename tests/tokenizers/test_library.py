"""SentencePiece's kinds of tokenizers: ids equal transformers', and bytes join to the text."""

import json
import pickle

import numpy as np
import pytest
from sentencepiece_style import SCRIPTS, sentencepiece, texts

from llm_scratch.data import readers
from llm_scratch.data.encoding import encode_pieces
from llm_scratch.data.readers import split_text
from llm_scratch.errors import UserError
from llm_scratch.interop.hf_tokenizer import read_start_id, write_tokenizer
from llm_scratch.tokenizers import LibraryTokenizer, load_tokenizer, save_tokenizer
from llm_scratch.tokenizers.special import encode_continuation

tokenizers = pytest.importorskip("tokenizers", reason="the reference; install the hf extra")
transformers = pytest.importorskip("transformers", reason="the reference; install the hf extra")
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


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


def test_library_tokenizer_ids_equal_transformers_after_a_run_and_an_export(folder, tmp_path):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert isinstance(ours, LibraryTokenizer)
    assert (ours.eot_token, ours.n_vocab) == (2, len(theirs))
    assert read_start_id(folder) == 1
    ours.other_ends = ("<s>",)
    save_tokenizer(ours, tmp_path / "run")
    back = load_tokenizer(tmp_path / "run")
    assert (back.end_of_text, back.chat_template) == ("</s>", TEMPLATE)
    assert back.other_ends == pickle.loads(pickle.dumps(ours)).other_ends == ("<s>",)
    (tmp_path / "out").mkdir()
    write_tokenizer(back, tmp_path / "out", 64, start_id=1)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (again.chat_template, again.bos_token, again.eos_token) == (TEMPLATE, "<s>", "</s>")
    for text in texts():
        want = theirs(text)["input_ids"]
        for tokenizer in (ours, back):
            assert [1, *tokenizer.encode(text, allowed_special="all")] == want, text
        assert again(text)["input_ids"] == want, text


def test_library_tokenizer_texts_round_trip_and_bytes_join(folder):
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


def test_tokenizer_file_unreadable_by_the_library_is_named(folder, tmp_path):
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"] = 7
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"tokenizer.json: .*cannot read this tokenizer"):
        load_tokenizer(tmp_path)


def as_metaspace(data):
    """The same tokenizer with the space first put by a pre-tokenizer, as newer files have it."""
    step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    return data | {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [step]},
    }


@pytest.mark.parametrize("style", [dict, as_metaspace])
def test_a_long_text_in_pieces_has_the_ids_of_the_whole(folder, monkeypatch, style):
    """Llama 2's kind puts a space before the first word of a text, and not of each piece."""
    tokenizer = LibraryTokenizer(style(json.loads((folder / "tokenizer.json").read_text())))
    monkeypatch.setattr(readers, "CHUNK_BYTES", 64)
    text = "\n".join(SCRIPTS * 3)
    first, *others = encode_pieces(text, tokenizer, "int32")
    starts = {piece[0] for piece in list(split_text(text))[1:]}
    assert starts > {" "}, "a cut before a space, and one after a line end"
    whole = tokenizer.encode(text)
    assert np.concatenate([first, *others]).tolist() == whole
    rest = text[len(next(split_text(text))) :]
    for_later = encode_pieces(rest, tokenizer, "int32", begins=False)
    assert np.concatenate([first, *for_later]).tolist() == whole


def test_an_answer_has_the_ids_that_it_has_after_its_question(folder):
    tokenizer = load_tokenizer(folder)
    question, answer = "the cat sat on", " the mat"
    whole = tokenizer.encode(question + answer)
    assert tokenizer.encode(question) + encode_continuation(tokenizer, answer) == whole
