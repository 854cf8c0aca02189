"""Measure a text before choosing a model: bytes, characters, documents, lines; extract prompts.

Tests: tests/planning/test_text_facts.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MIN_PROMPT, MAX_PROMPT = 4, 24  # characters of a prompt for samples


@dataclass(frozen=True)
class TextFacts:
    """The size and shape of a text."""

    n_bytes: int
    """in UTF-8"""
    n_characters: int
    n_distinct: int
    """distinct characters"""
    n_documents: int
    n_lines: int
    """line breaks and ends of documents"""
    typical_document: int
    """90th percentile of the documents' lengths, in characters"""

    @property
    def bytes_per_character(self) -> float:
        """1 for English, about 2 for Arabic and Cyrillic, about 3 for Chinese."""
        return self.n_bytes / self.n_characters


def text_facts(documents: Sequence[str]) -> TextFacts:
    """Measure a text.

    Args:
        documents: at least one, with at least one character among them.
    """
    lengths = sorted(map(len, documents))
    return TextFacts(
        n_bytes=sum(len(text.encode("utf-8", "surrogatepass")) for text in documents),
        n_characters=sum(lengths),
        n_distinct=len(set().union(*documents)),
        n_documents=len(documents),
        n_lines=sum(text.count("\n") + (not text.endswith("\n")) for text in documents),
        typical_document=lengths[int(0.9 * (len(lengths) - 1))],
    )


def beginnings(documents: Sequence[str], count: int) -> list[str]:
    """Short prompts from a text: beginnings of evenly spaced documents, or of lines of one.

    Args:
        documents: the text.
        count: the largest number; fewer if the text has fewer distinct ones.
    Returns:
        At least one.
    """
    if len(documents) >= count:
        candidates = [documents[i * len(documents) // count] for i in range(count)]
    else:
        candidates = [
            text if i == 0 else _after_break(text[i * len(text) // count :])
            for i in range(count)
            for text in documents
        ]
    prompts = [beginning for text in candidates if len(beginning := _beginning(text)) >= MIN_PROMPT]
    if prompts:
        return list(dict.fromkeys(prompts))[:count]
    return [next(text for text in documents if text.strip()).strip()[:MAX_PROMPT]]


def _after_break(text: str) -> str:
    """A text from its next paragraph, line, sentence or word break."""
    for pattern in (r"\n\s*\n\s*", r"\n\s*", r"[.!?。！？؟]\s*", r"\s+"):
        if (match := re.search(pattern, text[:4000])) and text[match.end() :].strip():
            return text[match.end() :]
    return text


def _beginning(text: str) -> str:
    """The first words of a text in a line of at most `MAX_PROMPT` characters; cut if unspaced."""
    line = next((line.strip() for line in text[:2000].splitlines() if line.strip()), "")
    if len(line) <= MAX_PROMPT:
        return line
    words = line[: MAX_PROMPT + 1].rpartition(" ")[0]
    return words if len(words) >= MIN_PROMPT else line[: MAX_PROMPT // 2]
