"""`llm-scratch explain`."""

from __future__ import annotations

from llm_scratch.learn.glossary import terms


def test_explain_prints_a_term(llm):
    result = llm("explain", "bits-per-byte")
    assert result.code == 0
    assert result.out.startswith("bits per byte (bits-per-byte): The surprise of a text in bits")
    assert result.out.endswith("Introduced in lesson 4.2.\n")


def test_explain_lists_all_terms(llm):
    lines = llm("explain").out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == list(terms())


def test_explain_of_an_unknown_term_is_one_line(llm):
    result = llm("explain", "tenser")
    assert (result.code, result.err) == (
        3,
        "llm-scratch: unknown term 'tenser'; did you mean 'tensor'?\n",
    )
