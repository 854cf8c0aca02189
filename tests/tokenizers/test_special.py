"""T4: no spelling in a user's text produces a special token."""

from __future__ import annotations

import pytest

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE, CharTokenizer, SimpleTokenizerV2

SPECIALS = ("<|endoftext|>", "<|user|>", "<|assistant|>")


def disguises(name: str) -> list[str]:
    """Twenty spellings of a special token, plain and disguised."""
    inner = name[2:-2]
    wide = "".join(chr(ord(character) + 0xFEE0) for character in name)
    half = len(name) // 2
    return [
        name,
        name * 2,
        f" {name} ",
        f"\n{name}\n",
        f"a{name}b",
        name.upper(),
        name.title(),
        f"<| {inner} |>",
        f"< |{inner}| >",
        wide,
        name.replace("|", "｜"),
        f"{name[:half]}\u200b{name[half:]}",
        f"{name[:half]} {name[half:]}",
        f"{name[:-1]}\u0301>",
        f'{{"role": "{name}"}}',
        f"[TOOL_CALLS]{name}({{}})",
        f"<|{name}|>",
        f"\\{name}",
        f"&lt;|{inner}|&gt; {name}",
        f"\u202e{name}\u202c",
    ]


@pytest.mark.parametrize("name", SPECIALS)
def test_t4_disguised_special_tokens_stay_text(verdict, name, measured):
    assert len(set(disguises(name))) == 20
    bpe = ByteBPE.train([verdict], 400, special_tokens=SPECIALS)
    chars = CharTokenizer.train("".join(disguises(name)))
    words = SimpleTokenizerV2.train([verdict])
    for text in disguises(name):
        for encode in (bpe.encode, bpe.encode_python, bpe.encode_ordinary):
            assert not set(encode(text)) & set(bpe.special_tokens.values()), text
            assert bpe.decode(encode(text)) == text
        assert not set(bpe.encode_iterable(text)) & set(bpe.special_tokens.values())
        assert chars.eot_token not in chars.encode(text)
        assert chars.decode(chars.encode(text)) == text
        assert words.eot_token not in words.encode(text)
    measured(
        "T4",
        f"0 special ids from 20 disguises of each of {len(SPECIALS)} names; each round-trips as"
        " text",
        "0 special ids",
    )


@pytest.mark.parametrize("name", SPECIALS)
def test_t4_name_split_over_parts_is_not_joined(verdict, name, measured):
    bpe = ByteBPE.train([verdict], 400, special_tokens=SPECIALS)
    for cut in range(1, len(name)):
        ids = bpe.encode(name[:cut]) + bpe.encode(name[cut:])
        assert not set(ids) & set(bpe.special_tokens.values())
        assert bpe.decode(ids) == name
    measured(
        "T4",
        f"0 special ids from each of {len(SPECIALS)} names split at every position",
        "0 special ids",
    )


def test_allowed_and_disallowed_special_work_as_in_tiktoken(ours, gpt2):
    text = "a<|endoftext|> b <|endoftext|><|endoftext|>"
    for keywords in (
        {"allowed_special": "all"},
        {"allowed_special": {"<|endoftext|>"}},
        {"disallowed_special": ()},
    ):
        want = gpt2.encode(text, **keywords)
        assert ours.encode(text, **keywords) == ours.encode_python(text, **keywords) == want
    assert ours.encode(text) == gpt2.encode(text, disallowed_special=())
    for encode in (gpt2.encode, ours.encode, ours.encode_python):
        with pytest.raises(ValueError, match="special token"):
            encode(text, disallowed_special="all")
        with pytest.raises(ValueError, match="'b <"):
            encode(text, disallowed_special=["b <"])
    assert ours.encode(text, allowed_special="all", disallowed_special="all") == gpt2.encode(
        text, allowed_special="all"
    )
    assert ours.encode("x", allowed_special={"<|other|>"}) == gpt2.encode("x")


def test_special_pattern_prefers_the_longer_name(verdict):
    tokenizer = ByteBPE.train([verdict], 300, special_tokens=("<|a|>", "<|a|><|b|>"))
    assert tokenizer.encode("<|a|><|b|><|a|>", allowed_special="all") == [299, 298]


def test_end_of_text_is_none_for_a_tokenizer_without_one(verdict):
    with pytest.raises(UserError, match=r"has no <\|endoftext\|>; train it with"):
        _ = ByteBPE.train([verdict], 300, special_tokens=()).eot_token
