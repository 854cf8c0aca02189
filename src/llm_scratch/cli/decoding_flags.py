"""Flags that choose a decoding strategy, and the token stream that it generates.

Tests: tests/cli/test_decoders.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llm_scratch.cli.flags import option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.prompts import read_text_argument
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.errors import DATA, UserError

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.generation.detokenizer import TextChunk
    from llm_scratch.tokenizers import Tokenizer

ContextOverflow = Literal["slide", "stop"]
TokenStream = Iterator[tuple[int, "TextChunk"]]
"""(number of the sample, next piece of its text)"""

SAMPLING_DECODERS = ("sample", "speculative", "lookup")
DECODERS_OF_FLAG = {
    "beams": ("beam",),
    "length_penalty": ("beam",),
    "candidates": ("contrastive",),
    "alpha": ("contrastive",),
    "draft_tokens": ("speculative", "lookup"),
    "draft": ("speculative",),
    "regex": ("sample",),
    "json_schema": ("sample",),
}
"""flag -> the decoders that it applies to"""
DEFAULT_BEAMS = 4
DEFAULT_CANDIDATES = 4
DEFAULT_ALPHA = 0.6
DEFAULT_DRAFT_TOKENS = 4
DEFAULT_LENGTH_PENALTY = 1.0
DEFAULT_TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class DecodingFlags(SamplingFlags):
    """The decoding strategy and its settings. A flag that the strategy would ignore is an error."""

    decoder: Literal["sample", "beam", "contrastive", "speculative", "lookup"] = "sample"
    """the decoding strategy: sampling, beam search, contrastive search, speculative decoding, or prompt lookup"""
    beams: Annotated[int | None, option("INT")] = None
    """beam: beam width (default: 4); --samples prints that many of the best"""
    length_penalty: Annotated[float | None, option("FLOAT")] = None
    """beam: exponent of the length that scores are divided by; 0 favors short texts (default: 1)"""
    candidates: Annotated[int | None, option("INT")] = None
    """contrastive: number of most probable tokens to choose from (default: 4)"""
    alpha: Annotated[float | None, option("FLOAT")] = None
    """contrastive: weight of the penalty for similarity to earlier text; 0 is greedy (default: 0.6)"""
    draft_tokens: Annotated[int | None, option("INT")] = None
    """speculative, lookup: number of tokens to propose in one step (default: 4)"""
    draft: Annotated[str, option("RUN")] = ""
    """speculative: a smaller draft model with the same tokenizer"""
    regex: Annotated[str, option("REGEX")] = ""
    """sample: the text must match this regular expression (extra `constrain`)"""
    json_schema: Annotated[str, option("FILE")] = ""
    """sample: the text must be JSON that matches the schema in this file (extra `constrain`)"""

    def validate(self, samples: int, seed: int | None, context_overflow: ContextOverflow | None = None) -> None:
        """Check that no flag would be ignored by the chosen strategy.

        Args:
            samples: number of continuations of each prompt.
            seed: of `--seed`; None where it is not set.
            context_overflow: of `--context-overflow`; None where it is not set.
        Raises:
            UserError: names the flag and the strategies that it applies to.
        """
        sampling = self.kwargs()
        decoders = DECODERS_OF_FLAG | dict.fromkeys(sampling, SAMPLING_DECODERS)
        decoders["mirostat"] = ("sample",)
        is_set = [name for name in decoders if name in sampling or getattr(self, name) not in (None, "")]
        for name in is_set:
            if self.decoder not in decoders[name]:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} has no effect with --decoder {self.decoder}; it applies to {', '.join(decoders[name])}")
        if self.decoder not in SAMPLING_DECODERS and seed is not None:
            raise UserError(f"--seed has no effect with --decoder {self.decoder}, which is deterministic; leave it out")
        if self.decoder == "beam" and context_overflow == "slide":
            raise UserError(
                "--context-overflow slide has no effect with --decoder beam, which stops when the context is full; leave it out"
            )
        if self.decoder == "contrastive" and samples > 1:
            raise UserError("--samples: contrastive search is deterministic and has one text; leave it out")
        if self.decoder == "speculative" and not self.draft:
            raise UserError("--decoder speculative needs a draft model; add --draft RUN, or use --decoder lookup")

    def generate(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        prompt: str,
        seed: int,
        samples: int,
        context_overflow: ContextOverflow | None,
        **streaming: Any,
    ) -> TokenStream:
        """Stream the continuations of a prompt.

        Args:
            seed: of the first sample; each next sample has the next seed.
            samples: number of continuations.
            context_overflow: what happens when the context is full; None is "slide".
            streaming: `max_new_tokens`, `stop` and `top`, as in `decode.stream_batch`.
        Returns:
            (number of the sample, piece of text), in the order of generation.
        Raises:
            UserError: the prompt is longer than the context, and the text is to stop there (code 3).
        """
        from llm_scratch.generation.decode import encode_prompt, stream_batch
        from llm_scratch.generation.memory_check import check_rows

        on_full = context_overflow or "slide"
        n_tokens = len(encode_prompt(model, tokenizer, prompt)) + streaming["max_new_tokens"]
        check_rows(model, samples, n_tokens)
        if on_full == "stop":
            _check_prompt_fits(model, tokenizer, prompt)
        if self.decoder == "sample":
            constraint = self._constraint(tokenizer)
            settings = self.kwargs() | ({} if constraint is None else {"constraint": constraint})
            seeds = [seed + number for number in range(samples)]
            return stream_batch(
                model,
                tokenizer,
                [prompt],
                samples=samples,
                seeds=seeds,
                on_full=on_full,
                **settings,
                **streaming,
            )
        max_new_tokens = streaming["max_new_tokens"]
        strategies = self._strategies(model, tokenizer, prompt, seed, samples, on_full, max_new_tokens)
        return (
            (sample, piece)
            for sample, write in enumerate(strategies)
            for _, piece in stream_batch(model, tokenizer, [prompt], write=write, **streaming)
        )

    def _strategies(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        prompt: str,
        seed: int,
        samples: int,
        on_full: ContextOverflow,
        max_new_tokens: int,
    ) -> Iterator[Callable[..., Any]]:
        """The token generator of each sample, for a strategy other than plain sampling."""
        import torch

        from llm_scratch.generation import beam, contrastive
        from llm_scratch.generation.decode import encode_prompt
        from llm_scratch.model.introspection import device_of
        from llm_scratch.tokenizers.special import end_of_text

        if self.decoder == "beam":
            idx = torch.tensor([encode_prompt(model, tokenizer, prompt)], device=device_of(model))  # [1, T]
            beams = beam.beam_search(
                model,
                idx,
                max_new_tokens=max_new_tokens,
                length_penalty=_default(self.length_penalty, DEFAULT_LENGTH_PENALTY),
                width=max(self.beams or DEFAULT_BEAMS, samples),
                n_best=samples,
                eos_id=end_of_text(tokenizer),
                n_vocab=tokenizer.n_vocab,
            )
            yield from (partial(beam.beam_steps, best=best) for best in beams)
        elif self.decoder == "contrastive":
            yield partial(
                contrastive.contrastive,
                k=self.candidates or DEFAULT_CANDIDATES,
                alpha=_default(self.alpha, DEFAULT_ALPHA),
                on_full=on_full,
                n_vocab=tokenizer.n_vocab,
            )
        else:
            yield from self._speculative(model, tokenizer, seed, samples, on_full)

    def _speculative(
        self, model: nn.Module, tokenizer: Tokenizer, seed: int, samples: int, on_full: ContextOverflow
    ) -> Iterator[Callable[..., Any]]:
        """Speculative decoding of each sample, with a draft model or prompt lookup."""
        from llm_scratch.generation import speculative
        from llm_scratch.generation.decode import seeded
        from llm_scratch.model.introspection import device_of

        draft = self._load_draft(model)
        settings = {"temperature": DEFAULT_TEMPERATURE, **self.kwargs(), "n_vocab": tokenizer.n_vocab}
        for number in range(samples):
            generator = seeded(seed + number, device_of(model))
            propose: Any = partial(speculative.prompt_lookup, n_vocab=tokenizer.n_vocab)
            if draft is not None:
                propose = speculative.DraftModel(draft, generator, **settings)
            yield partial(
                speculative.speculative,
                propose=propose,
                n_guesses=self.draft_tokens or DEFAULT_DRAFT_TOKENS,
                generator=generator,
                on_full=on_full,
                **settings,
            )

    def _load_draft(self, model: nn.Module) -> nn.Module | None:
        """The draft model; None for prompt lookup."""
        from llm_scratch.generation.dtype import bits_of
        from llm_scratch.generation.speculative import check_draft
        from llm_scratch.loading import load
        from llm_scratch.model.introspection import device_of

        if not self.draft:
            return None
        draft, _ = load(resolve_model_path(self.draft), str(device_of(model)))
        check_draft(model, draft)
        return draft if bits_of(draft) else draft.to(next(model.parameters()).dtype)

    def _constraint(self, tokenizer: Tokenizer) -> Any:
        """The constraint of `--regex` or `--json-schema`; None without one."""
        from llm_scratch.generation.constrain import Constraint

        if not self.regex and not self.json_schema:
            return None
        schema = read_text_argument(self.json_schema) if self.json_schema else None
        return Constraint(tokenizer, regex=self.regex or None, json_schema=schema)


def _default(value: float | None, default: float) -> float:
    return default if value is None else value


def _check_prompt_fits(model: nn.Module, tokenizer: Tokenizer, prompt: str) -> None:
    """Check that the context has room for a new token after the prompt.

    Raises:
        UserError: the prompt is longer than the context (code 3).
    """
    from llm_scratch.generation.decode import encode_prompt
    from llm_scratch.model.introspection import context_length

    n_prompt = len(encode_prompt(model, tokenizer, prompt))
    size = context_length(model)
    if size is not None and n_prompt > size:
        raise UserError(
            f"the prompt has {n_prompt} tokens, more than the context of {size}; shorten it, or leave out --context-overflow stop",
            DATA,
        )
