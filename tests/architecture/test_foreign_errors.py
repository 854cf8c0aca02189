"""Messages of other libraries' exceptions pass through `describe_error` before printing.

The result is one line without control characters.
"""

import ast
from pathlib import Path

import llm_scratch

ROOT = Path(llm_scratch.__file__).parent
OURS = {"UserError", "CorruptCheckpoint", "RequestError", "OutOfRange", "KeyboardInterrupt"}


def raw_messages(path: Path) -> list[str]:
    """Places that put another library's exception into an f-string unchanged."""
    found = []
    for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name or handler.type is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if all(ast.unparse(kind) in OURS for kind in kinds):
            continue
        for node in ast.walk(handler):
            if isinstance(node, ast.FormattedValue) and ast.unparse(node.value) in (
                handler.name,
                f"str({handler.name})",
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_messages_of_other_libraries_are_cleaned():
    found = [place for path in sorted(ROOT.rglob("*.py")) for place in raw_messages(path)]
    assert not found, f"use errors.describe_error: {found}"
