"""SentencePiece's BPE goes through a GGUF file with equal ids."""

import pytest
from gguf_bytes import T, gguf_bytes
from gguf_models import random_model
from sentencepiece_style import sentencepiece, texts

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.errors import DATA, UserError
from llm_scratch.interop.gguf import load_gguf
from llm_scratch.interop.gguf_export import export_gguf
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.interop.gguf_tokenizer import exportable, tokenizer_from, tokenizer_metadata
from llm_scratch.tokenizers import LibraryTokenizer

pytest.importorskip("tokenizers", reason="runs these tokenizers; install the hf extra")


@pytest.fixture(scope="module", params=["Llama", "Gemma"])
def tokenizer(request):
    made = LibraryTokenizer(sentencepiece(request.param), end_of_text="</s>")
    made.chat_template = "{{ messages }}"
    return made


def test_sentencepiece_ids_survive_a_gguf_round_trip(tokenizer, tmp_path):
    path = tmp_path / "words.gguf"
    metadata = tokenizer_metadata(exportable(tokenizer), tokenizer.n_vocab + 3, 1)
    path.write_bytes(gguf_bytes(metadata, [T("x")]))
    back = tokenizer_from(GGUFFile(path))
    assert (back.n_vocab, back.eot_token) == (tokenizer.n_vocab, 2)
    assert back.special_tokens == tokenizer.special_tokens
    for text in texts():
        for allowed in ("all", frozenset()):
            ids = tokenizer.encode(text, allowed_special=allowed)
            assert back.encode(text, allowed_special=allowed) == ids, text
        assert back.decode(ids) == tokenizer.decode(ids)


def test_sentencepiece_model_is_exported_with_its_chat_template(tokenizer, tmp_path):
    pytest.importorskip("gguf", reason="writes the files; install the gguf extra")
    sizes = {"context_length": 16, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    model = random_model(LlamaConfig(vocab_size=tokenizer.n_vocab, **sizes))
    model.start_id = 1
    assert export_gguf(model, tokenizer, tmp_path / "a.gguf").equal_texts == 1000
    back, back_tokenizer = load_gguf(tmp_path / "a.gguf")
    assert (back.start_id, back_tokenizer.chat_template) == (1, "{{ messages }}")
    assert 'PARAMETER stop "</s>"' in (tmp_path / "a.Modelfile").read_text()


def test_other_tokenizer_kinds_are_refused():
    unigram = LibraryTokenizer(sentencepiece("Unigram"))
    with pytest.raises(UserError, match="LibraryTokenizer cannot be exported to GGUF"):
        exportable(unigram)


def test_damaged_pieces_are_refused(tokenizer, tmp_path):
    path = tmp_path / "bad.gguf"
    metadata = tokenizer_metadata(exportable(tokenizer), tokenizer.n_vocab, 1)
    for change, reason in (
        ({"tokenizer.ggml.scores": [0.5]}, "scores is missing or not|scores has 1 elements"),
        ({"tokenizer.ggml.token_type": [1] * 3}, "token_type has 3 elements"),
        ({"tokenizer.ggml.token_type": [5] * tokenizer.n_vocab}, "has no tokens"),
    ):
        path.write_bytes(gguf_bytes(metadata | change, [T("x")]))
        with pytest.raises(UserError, match=reason) as caught:
            tokenizer_from(GGUFFile(path))
        assert caught.value.code == DATA
