"""The samples of `generate --json`, one JSON object a line. Tests: tests/cli/test_json.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_scratch.cli.output import print_json

if TYPE_CHECKING:
    from llm_scratch.cli.decoding_flags import TokenStream
    from llm_scratch.cli.token_printer import GenerationTimer
    from llm_scratch.generation.detokenizer import TextChunk


def print_sample_objects(
    rows: TokenStream, prompt: str, seeds: Sequence[int | None], timer: GenerationTimer
) -> None:
    """Collect the samples of a prompt, and print one JSON object for each.

    Args:
        rows: (sample, chunk) as they are generated.
        seeds: of each sample; None where decoding is deterministic.
        timer: counts the tokens.
    """
    chunks: list[list[TextChunk]] = [[] for _ in seeds]
    for row, chunk in rows:
        chunks[row].append(chunk)
        if chunk.id is not None:
            timer.on_token()
    timer.stop()
    for seed, sample in zip(seeds, chunks, strict=True):
        print_json(
            {
                "prompt": prompt,
                "text": "".join(chunk.text for chunk in sample),
                "tokens": sum(chunk.id is not None for chunk in sample),
                "stop_reason": sample[-1].stop_reason,
                "seed": seed,
            }
        )
