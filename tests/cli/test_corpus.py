"""Names of sources on a terminal; test_train.py reads them."""

from __future__ import annotations

import pytest

from llm_scratch.cli.corpus import source_in_words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("file:books/", "file:books/"),
        ('file:["a.txt", "b.txt"]', 'file:["a.txt", "b.txt"]'),
        ('file:["a.txt", "b.txt", "c d.txt"]', "3 paths, a.txt to c d.txt"),
        ("file:[abc].txt", "file:[abc].txt"),
        ("stories:20", "stories:20"),
    ],
)
def test_source_of_many_paths_is_named_by_first_and_last(source, words):
    assert source_in_words(source) == words
