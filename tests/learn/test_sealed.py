"""Sealed solutions: they open to what was sealed, and cannot be read or searched by accident."""

from __future__ import annotations

import pytest
import seal

from llm_scratch.learn.sealed import FOLDER, open_sealed, unseal
from llm_scratch.learn.sealed import seal as sealed_text

SOURCE = '''
import math


def _half(x):
    return x / 2


def solve(x):
    return math.sqrt(x)


def forgot_the_root(x):
    """The root is missing."""
    return x
'''


def test_sealed_text_opens_to_its_source():
    text = sealed_text(SOURCE)
    assert unseal(text) == SOURCE
    assert all(len(line) <= 88 for line in text.splitlines())
    assert "root" not in text


def test_no_sealed_file_is_legible():
    for path in FOLDER.glob("*.txt"):
        assert "def" not in path.read_text(encoding="ascii").split()


def test_parts_of_a_sealed_file(tmp_path, monkeypatch):
    (tmp_path / "9.9.txt").write_text(sealed_text(SOURCE), encoding="ascii")
    monkeypatch.setattr("llm_scratch.learn.sealed.FOLDER", tmp_path)
    found = open_sealed("9.9")
    assert found.solve(9) == 3
    assert [mistake.__doc__ for mistake in found.mistakes] == ["The root is missing."]
    assert found.solution == "import math\n\ndef solve(x):\n    return math.sqrt(x)"


def test_author_opens_and_seals_again(tmp_path):
    solutions, sealed = tmp_path / "solutions", tmp_path / "sealed"
    seal.main(open_them=True, solutions=solutions)
    assert len(list(solutions.glob("*.py"))) == len(list(FOLDER.glob("*.txt")))
    seal.main(open_them=False, solutions=solutions, sealed=sealed)
    for path in FOLDER.glob("*.txt"):
        assert (sealed / path.name).read_text(encoding="ascii") == path.read_text(encoding="ascii")


@pytest.mark.parametrize("exercise", ["0.8", "1.5", "2.5"])
def test_solution_is_complete_code(exercise):
    namespace: dict = {}
    exec(open_sealed(exercise).solution, namespace)
    assert callable(namespace["solve"])
