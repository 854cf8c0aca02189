"""generation_config.json: its ends of text are the tokenizer's, everything else is named."""

import json

import pytest

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf_generation import read_generation_config
from llm_scratch.tokenizers import ByteBPE, CharTokenizer
from llm_scratch.tokenizers.special import end_ids


@pytest.fixture
def read(tmp_path, caplog):
    def read(tokenizer=None, **config):
        (tmp_path / "generation_config.json").write_text(json.dumps(config))
        tokenizer = tokenizer or ByteBPE([], special_tokens=("<|eot|>", "<|end|>", "<|im_end|>"))
        caplog.clear()
        read_generation_config(tmp_path, tokenizer)
        return tokenizer, caplog.text

    return read


def test_exported_generation_config_has_the_end_of_text(read):
    tokenizer, printed = read(eos_token_id=257, do_sample=True, temperature=1.0, top_k=50)
    assert tokenizer.eot_token == 257
    assert printed == ""


def test_every_special_token_that_ends_a_text_is_an_end(read):
    tokenizer, printed = read(eos_token_id=[258, 257, 258])
    assert tokenizer.eot_token == 258
    assert tokenizer.other_ends == ("<|end|>",)
    assert end_ids(tokenizer) == {257, 258}
    assert printed == ""


def test_ends_that_a_text_may_contain_and_the_sampling_of_the_authors_are_named(read):
    tokenizer, printed = read(eos_token_id=[258, 10], temperature=0.6, top_p=0.9, top_k=50)
    assert end_ids(tokenizer) == {258}
    assert "may also end with '+'; add --stop" in printed
    assert "its authors sample with temperature 0.6, top_p 0.9; set" in printed


def test_end_token_of_the_tokenizer_is_kept_among_several(read):
    tokenizer = ByteBPE([], special_tokens=("<|eot|>", "<|end|>"), end_of_text="<|end|>")
    assert read(tokenizer, eos_token_id=[256, 257])[0].eot_token == 257
    assert end_ids(tokenizer) == {256, 257}


def test_tokenizer_without_special_tokens_is_unchanged(read):
    tokenizer, printed = read(CharTokenizer.train(["abc"]), eos_token_id=3)
    assert (tokenizer.eot_token, printed) == (3, "")


def test_ids_that_the_tokenizer_does_not_have_are_ignored(read):
    """As transformers writes GPT-2's 50256 for every GPT2Config."""
    tokenizer, printed = read(eos_token_id=[50256, -1, 257])
    assert (tokenizer.eot_token, printed) == (257, "")


@pytest.mark.parametrize("ids", ["2", [1, 2.5], [True], {"a": 1}])
def test_invalid_token_ids_of_a_generation_config_are_an_error(ids, read):
    with pytest.raises(UserError, match=r"generation_config.json: eos_token_id is") as caught:
        read(eos_token_id=ids)
    assert caught.value.code == CHECKPOINT
