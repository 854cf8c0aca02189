"""The texts of one decoding method, with their metrics, as `compare-decoding` shows them.

Tests: tests/cli/test_compare_decoding.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_scratch.evaluation.decoding_metrics import TextMetrics
    from llm_scratch.generation.detokenizer import TextChunk


@dataclass(frozen=True)
class DecodingSample:
    """The texts of one decoding method.

    Attributes:
        name: of the method.
        flags: of `generate`, for the same texts.
        samples: the tokens of each text;
            empty for validation text, which is only a row of the table.
        scores: metrics over all its texts.
        speed: tokens per second; None for validation text.
        about: what the method does.
    """

    name: str
    flags: str
    samples: tuple[tuple[TextChunk, ...], ...]
    scores: TextMetrics
    speed: float | None
    about: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The continuations, without the prompt."""
        return tuple("".join(piece.text for piece in pieces) for pieces in self.samples)


def repeated_texts(shown: Sequence[DecodingSample]) -> dict[tuple[int, int], str]:
    """Texts that repeat an earlier one: (number of the method, sample) -> where it was."""
    first: dict[str, str] = {}
    repeated: dict[tuple[int, int], str] = {}
    for i, method in enumerate(shown):
        for j, text in enumerate(method.texts):
            if text in first:
                repeated[i, j] = first[text]
            else:
                first[text] = (
                    method.name if len(method.samples) == 1 else f"{method.name}, text {j + 1}"
                )
    return repeated
