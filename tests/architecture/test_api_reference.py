"""docs/api.md and README's tree of packages match the source.

Write them again with `python docs/api_reference.py --write`.
"""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import llm_scratch

api_reference = import_module("api_reference")
COMMAND = "run: python docs/api_reference.py --write"


def test_api_page_is_up_to_date():
    assert api_reference.PAGE.read_text(encoding="utf-8") == api_reference.render(), COMMAND


def test_readme_tree_is_up_to_date():
    (tree,) = api_reference.TREE.findall(api_reference.README.read_text(encoding="utf-8"))
    assert tree == api_reference.package_tree(), COMMAND


def test_package_tree_has_every_package_with_a_sentence():
    lines = dict(re.findall(r"^  (\w+)/ +(\S.*)$", api_reference.package_tree(), re.M))
    root = Path(llm_scratch.__file__).parent
    assert set(lines) == {path.parent.name for path in root.glob("*/__init__.py")}


def test_api_page_has_every_public_name():
    headings = re.findall(r"^### (\w+)$", api_reference.render(), re.M)
    assert set(llm_scratch.__all__) <= set(headings)
    assert len(headings) == len(set(headings)), "a link to a heading must be unique"


def test_examples_of_the_api_page_are_python():
    texts = [
        "\n".join(api_reference.docstring(entry.text))
        for part in api_reference.entries().values()
        for entry in part
    ]
    examples = [
        block for text in texts for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    ]
    assert len(examples) >= 4
    for block in examples:
        ast.parse(block)


def test_docstring_sections_become_lists_and_examples_code():
    text = (
        "Add.\n\nArgs:\n    a, b: numbers,\n        finite.\nRaises:\n    ValueError:"
        " one is not.\n\nExample:\n    add(1, 2)\nAfter."
    )
    assert list(api_reference.docstring(text)) == [
        "Add.",
        "",
        "",
        "**Args**",
        "",
        "- `a, b`: numbers,",
        "    finite.",
        "",
        "**Raises**",
        "",
        "- `ValueError`: one is not.",
        "",
        "",
        "```python",
        "add(1, 2)",
        "```",
        "After.",
    ]


def test_signature_keeps_kinds_and_defaults_of_parameters():
    source = "def f(self, a: int, /, b=1, *, c: str = 'x', **more: Any) -> None: ..."
    (node,) = ast.parse(source).body
    assert api_reference.signature(node) == "f(a: int, b=1, *, c: str = 'x', **more: Any) -> None"
