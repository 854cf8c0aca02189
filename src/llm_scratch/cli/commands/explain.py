"""`explain`: the glossary in a terminal.

Tests: tests/cli/test_explain.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from tyro.conf import Positional

from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console
from llm_scratch.learn.glossary import Term, find_term, terms


@dataclass(frozen=True)
class Explain(ReportCommand):
    """Explain a term of the lessons; without TERM, list them all.

    examples:
      llm-scratch explain loss
      llm-scratch explain bits-per-byte
    """

    term: Positional[Annotated[str, option("TERM")]] = ""
    """such as loss, or "matrix product" (default: all)"""

    def run(self) -> None:
        """Print the entry."""
        selected = [find_term(self.term)] if self.term else list(terms().values())
        if self.json:
            print_json({"terms": [_as_json(term) for term in selected]})
            return
        if not self.term:
            print("\n".join(f"{term.lesson:<5} {term.name}" for term in selected))
            return
        (term,) = selected
        others = f" ({', '.join(term.also)})" if term.also else ""
        console().print(f"{term.name}{others}: {term.text}", highlight=False, markup=False)
        print(f"Introduced in lesson {term.lesson}.")


def _as_json(term: Term) -> dict[str, object]:
    return {key: value for key, value in asdict(term).items() if key != "everyday"}
