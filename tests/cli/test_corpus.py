"""How sources are named on a terminal; reading them is tested in test_train.py."""

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
def test_many_paths_are_named_by_the_first_and_the_last(source, words):
    assert source_in_words(source) == words
