"""The samples of `generate --json`, one JSON object a line. Tests: tests/cli/test_json.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llm_scratch.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_scratch.cli.decoding_flags import TokenStream
    from llm_scratch.cli.token_printer import GenerationTimer
    from llm_scratch.generation.detokenizer import TextChunk
    from llm_scratch.tokenizers import Tokenizer

StopReason = Literal["end_of_text", "stop", "length", "context"]


def print_sample_objects(
    rows: TokenStream,
    tokenizer: Tokenizer,
    prompt: str,
    seeds: Sequence[int | None],
    stop: Sequence[str],
    tokens: int,
    clock: GenerationTimer,
) -> None:
    """Collect the samples of a prompt, and print one JSON object for each.

    Args:
        rows: (sample, chunk) as they come.
        seeds: of each sample; None where decoding is deterministic.
        stop: the stop strings.
        tokens: the requested maximum.
        clock: counts the tokens.
    """
    chunks: list[list[TextChunk]] = [[] for _ in seeds]
    for row, chunk in rows:
        chunks[row].append(chunk)
        if chunk.id is not None:
            clock.on_token()
    clock.stop()
    for seed, sample in zip(seeds, chunks):
        ids = [chunk.id for chunk in sample if chunk.id is not None]
        fields: dict[str, Any] = {"prompt": prompt, "text": "".join(chunk.text for chunk in sample), "tokens": len(ids)}
        print_json(fields | {"stop_reason": stop_reason(tokenizer, ids, stop, tokens), "seed": seed})


def stop_reason(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str], tokens: int) -> StopReason:
    """Why a text ended: the model ended it, a stop string came, it has all its tokens, or the context was full.

    Args:
        ids: the tokens that were generated, an end-of-text token among them.
        stop: the stop strings.
        tokens: the requested maximum.
    """
    from llm_scratch.tokenizers.special import end_of_text

    if ids and ids[-1] == end_of_text(tokenizer):
        return "end_of_text"
    written = tokenizer.decode(list(ids)) if stop else ""
    if any(text in written for text in stop):
        return "stop"
    return "length" if len(ids) >= tokens else "context"
