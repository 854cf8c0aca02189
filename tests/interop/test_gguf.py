"""A GGUF file is loaded as the model that it was made from; other files are refused by name."""

import struct

import pytest
import torch
from gguf_bytes import gguf_bytes
from gguf_models import CFG, TEXT, parts_of, random_model, whole_file

from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.interop.gguf import is_gguf
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.loading import load
from llm_scratch.tokenizers.bpe import ByteBPE


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 280)


@pytest.fixture(scope="module")
def model(tokenizer):
    model = random_model(CFG)
    model.start_id = tokenizer.eot_token
    return model


def test_gguf_model_equals_its_source(model, tokenizer, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(whole_file(model, tokenizer))
    back, back_tokenizer = load(path)
    assert back.cfg == CFG
    assert back.start_id == tokenizer.eot_token
    own = dict(back.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in model.named_parameters())
    ids = torch.randint(0, 290, (2, 16))
    assert torch.equal(back(ids), model(ids))
    for text in (TEXT, "<|endoftext|> a\n\n b", "Größe 日本 \U0001f600"):
        assert back_tokenizer.encode(text) == tokenizer.encode(text)
        assert back_tokenizer.encode(text, allowed_special="all") == tokenizer.encode(
            text, allowed_special="all"
        )


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"tokenizer.ggml.add_bos_token": None}, None),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, 279),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "tekken"}, 279),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, None),
        ({"tokenizer.ggml.bos_token_id": struct.pack("<Ii", 5, -1)}, None),
        ({"tokenizer.ggml.eos_token_id": [279]}, 279),
    ],
)
def test_token_before_each_text_is_that_of_llama_cpp(changes, start, model, tokenizer, tmp_path):
    path = tmp_path / "start.gguf"
    path.write_bytes(whole_file(model, tokenizer, changes))
    assert load(path)[0].start_id == start


def test_end_of_turn_and_end_of_message_tokens_survive_a_round_trip(model, tmp_path):
    names = ("<|endoftext|>", "<|eom_id|>", "<|eot_id|>")
    tokenizer = ByteBPE.train([TEXT], 280, special_tokens=names)
    tokenizer.other_ends = names[:0:-1]
    path = tmp_path / "ends.gguf"
    path.write_bytes(whole_file(model, tokenizer))
    assert GGUFFile(path).metadata["tokenizer.ggml.eot_token_id"] == tokenizer.eot_token + 2
    back = load(path)[1]
    assert (back.end_of_text, back.other_ends) == (names[0], tokenizer.other_ends)


def test_gguf_file_is_recognized_by_its_first_bytes_or_its_name(tmp_path):
    (tmp_path / "blob").write_bytes(gguf_bytes())
    (tmp_path / "x.gguf").write_bytes(b"nothing")
    (tmp_path / "x.pth").write_bytes(b"nothing")
    assert [is_gguf(tmp_path / name) for name in ("blob", "x.gguf", "x.pth", "none.gguf")] == [
        True,
        True,
        False,
        False,
    ]


REFUSED = {
    "another architecture": (
        {"general.architecture": "mamba"},
        "",
        "general.architecture is 'mamba'; supported are gpt2",
        CHECKPOINT,
    ),
    "no architecture": ({"general.architecture": None}, "", "architecture is 'None'", CHECKPOINT),
    "no heads": (
        {"gpt2.attention.head_count": None},
        "",
        "gpt2.attention.head_count is 'missing'; expected a positive integer",
        CHECKPOINT,
    ),
    "three heads": ({"gpt2.attention.head_count": 3}, "", "embedding_length is '8'", CHECKPOINT),
    "an eps that is not a number": (
        {"gpt2.attention.layer_norm_epsilon": float("nan")},
        "",
        "layer_norm_epsilon is 'nan'; expected a number",
        CHECKPOINT,
    ),
    "a billion layers": (
        {"gpt2.block_count": 10**9},
        "",
        "n_layers: 1000000000 is out of range",
        CHECKPOINT,
    ),
    "a layer too many": (
        {"gpt2.block_count": 2},
        "",
        "blk.1.attn_norm.weight is missing",
        CHECKPOINT,
    ),
    "a wide feed-forward network": (
        {"gpt2.feed_forward_length": 2**20},
        "",
        r"blk.0.ffn_up.weight is \(24, 8\)",
        CHECKPOINT,
    ),
    "a long context": (
        {"gpt2.context_length": 2**30},
        "",
        "position_embd.weight is",
        CHECKPOINT,
    ),
    "a missing tensor": ({}, "blk.0.ffn_up.bias", "blk.0.ffn_up.bias is missing", CHECKPOINT),
    "no embedding": ({}, "token_embd.weight", "token_embd.weight is missing", CHECKPOINT),
    "another tokenizer": (
        {"tokenizer.ggml.model": "rwkv"},
        "",
        "tokenizer.ggml.model is 'rwkv'",
        DATA,
    ),
    "an unknown pattern": (
        {"tokenizer.ggml.pre": "gpt-3"},
        "",
        "'gpt-3'; did you mean 'gpt-2'",
        DATA,
    ),
    "a list of patterns": ({"tokenizer.ggml.pre": ["gpt-2"]}, "", "pre in", DATA),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "", "tokens is missing", DATA),
    "tokens that are numbers": ({"tokenizer.ggml.tokens": [1]}, "", "not a list of str", DATA),
    "too few kinds": ({"tokenizer.ggml.token_type": [1]}, "", "token_type has 1 elements", DATA),
    "a token twice": ({"tokenizer.ggml.tokens": ["a"] * 290}, "", "has a token twice", DATA),
    "a merge of three": ({"tokenizer.ggml.merges": ["a b c"]}, "", "expected two tokens", DATA),
}


@pytest.mark.parametrize("name", REFUSED)
def test_gguf_file_of_another_model_is_refused(name, model, tokenizer, tmp_path):
    changes, without, reason, code = REFUSED[name]
    path = tmp_path / "other.gguf"
    path.write_bytes(whole_file(model, tokenizer, changes, without))
    with pytest.raises(UserError, match=reason) as caught:
        load(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_weight_that_is_not_finite_is_named(model, tokenizer, tmp_path):
    metadata, tensors = parts_of(model, tokenizer)
    n = next(i for i, each in enumerate(tensors) if each.name == "blk.0.ffn_norm.bias")
    tensors[n] = tensors[n]._replace(data=struct.pack("<f", float("nan")) + tensors[n].data[4:])
    path = tmp_path / "nan.gguf"
    path.write_bytes(gguf_bytes(metadata, tensors))
    with pytest.raises(UserError, match=r"nan.gguf: blk.0.ffn_norm.bias has values that are not"):
        load(path)
