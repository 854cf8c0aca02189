"""Facts of a text, and the prompts taken from it."""

from __future__ import annotations

import pytest

from llm_scratch.planning.text_facts import MAX_PROMPT, beginnings, text_facts

HEN = "The hen sat on the red mat and then ran off."
COUNTING = (
    "one two three four five six seven. eight nine ten eleven twelve. more words here and there."
)


def test_text_facts_of_a_small_text():
    facts = text_facts(["Zoë ran.\nShe hid.\n", "红花"])
    assert (facts.n_bytes, facts.n_characters, facts.n_documents, facts.n_lines) == (25, 20, 2, 3)
    assert facts.n_distinct == len(set("Zoë ran.\nShe hid.红花"))
    assert facts.bytes_per_character == 25 / 20


def test_nine_of_ten_documents_are_not_longer_than_the_typical_one():
    lengths = [*range(1, 21)]
    typical = text_facts(["x" * n for n in lengths]).typical_document
    assert sum(n <= typical for n in lengths) >= 0.9 * len(lengths)
    assert typical < 20


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (
            [HEN, "A fox came by.", "Rain fell."],
            ["The hen sat on the red", "A fox came by.", "Rain fell."],
        ),
        ([COUNTING], ["one two three four five", "eight nine ten eleven", "more words here and"]),
        (["a\n\nROMEO:\nO, she doth teach the torches to burn bright!\n" * 9], None),
        (["上海是中国的一座城市。" * 30], None),
        (["x"], ["x"]),
        (["", "  \n", "only this one"], ["only this one"]),
    ],
)
def test_beginnings_are_prefixes_of_the_documents(documents, expected):
    found = beginnings(documents, 3)
    assert 1 <= len(found) <= 3
    assert len(set(found)) == len(found)
    for beginning in found:
        assert any(beginning in text for text in documents)
        assert len(beginning) <= MAX_PROMPT
        assert "\n" not in beginning
        assert beginning.strip() == beginning != ""
    if expected is not None:
        assert found[: len(expected)] == expected


def test_beginnings_of_many_documents_are_spread_evenly():
    documents = [f"Poem number {n} begins here" for n in range(300)]
    assert beginnings(documents, 3) == [
        "Poem number 0 begins",
        "Poem number 100 begins",
        "Poem number 200 begins",
    ]
