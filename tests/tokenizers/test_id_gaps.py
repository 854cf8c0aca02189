"""Ids with gaps, as in tiktoken's cl100k_base and o200k_base, can be saved and loaded.

They train and generate.
"""

import json

import pytest
import tiktoken
from tokenizer_texts import SCRIPTS

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE, decoding_every_id, load_tokenizer, save_tokenizer
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN

TEXT = "the more the merrier, said the painter. "


@pytest.fixture(scope="module")
def encoding():
    """Return a tiktoken encoding with gaps after and among the merges and the special tokens."""
    merges = ByteBPE.train([TEXT * 20], 270).vocabulary
    ranks = {token: i + 3 * (i > 260) for i, token in enumerate(merges.symbol)}
    specials = {
        "<|endoftext|>": max(ranks.values()) + 2,
        "<|endofprompt|>": max(ranks.values()) + 9,
    }
    return tiktoken.Encoding(
        "gaps", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=specials
    )


def test_id_gaps_survive_saving_and_loading(encoding, tmp_path):
    save_tokenizer(encoding, tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.n_vocab, again.eot_token) == (encoding.n_vocab, encoding.eot_token)
    for text in (TEXT, *SCRIPTS):
        assert (
            again.encode(text)
            == again.encode_python(text)
            == encoding.encode(text, disallowed_special=())
        )


def test_id_gaps_survive_saving_by_transformers(encoding, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    save_tokenizer(encoding, tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    assert theirs(TEXT)["input_ids"] == encoding.encode(TEXT)
    theirs.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.encode(TEXT) == encoding.encode(TEXT)
    assert again.special_tokens == dict(encoding._special_tokens)


def test_ids_in_a_gap_decode_to_an_empty_text(encoding):
    tokenizer = decoding_every_id(encoding)
    used = set(encoding._mergeable_ranks.values()) | set(encoding._special_tokens.values())
    gaps = sorted(set(range(encoding.n_vocab)) - used)
    assert len(gaps) == 3 + 1 + 6
    assert [tokenizer.decode_bytes([i]) for i in gaps] == [b""] * len(gaps)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode([*ids[:3], gaps[0], *ids[3:]]) == TEXT
    for i in (-1, encoding.n_vocab):
        with pytest.raises(ValueError, match=f"id {i} is not in this vocabulary"):
            tokenizer.decode([i])


def test_encodings_without_gaps_stay_as_they_are(gpt2):
    assert decoding_every_id(gpt2) is gpt2


@pytest.mark.parametrize("ids", [{"a": -1}, {"a": 1 << 40}, {"a": 98}, {"a": 0.5}])
def test_ids_below_zero_too_large_or_twice_are_refused(encoding, ids, tmp_path):
    save_tokenizer(encoding, tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["model"]["vocab"] |= ids
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="are not whole numbers from 0 to 999,999, each once"):
        load_tokenizer(tmp_path)
