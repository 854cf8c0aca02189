"""Flags that choose a decoding strategy, and the token stream that it generates.

Tests: tests/cli/test_decoders.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llm_scratch.cli.flags import option
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.errors import DATA, UserError

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.generation.detokenizer import TextChunk
    from llm_scratch.tokenizers import Tokenizer

ContextOverflow = Literal["slide", "stop"]
TokenStream = Iterator[tuple[int, "TextChunk"]]
"""(number of the sample, next piece of its text)"""


@dataclass(frozen=True, kw_only=True)
class DecodingFlags(SamplingFlags):
    """The decoding strategy and its settings. A flag that the strategy would ignore is an error."""

    decoder: Literal["sample", "beam", "contrastive", "speculative", "lookup"] = "sample"
    """the decoding strategy: sampling, beam search,
    contrastive search, speculative decoding, or prompt lookup
    """
    beams: Annotated[int | None, option("INT")] = None
    """beam: beam width (default: 4); --samples prints that many of the best"""
    length_penalty: Annotated[float | None, option("FLOAT")] = None
    """beam: exponent of the length that scores are divided by; 0 favors short texts (default: 1)"""
    candidates: Annotated[int | None, option("INT")] = None
    """contrastive: number of most probable tokens to choose from (default: 4)"""
    alpha: Annotated[float | None, option("FLOAT")] = None
    """contrastive: weight of the penalty for similarity to earlier text;
    0 is greedy (default: 0.6)
    """
    draft_tokens: Annotated[int | None, option("INT")] = None
    """speculative, lookup: number of tokens to propose in one step (default: 4)"""
    draft: Annotated[str, option("RUN")] = ""
    """speculative: a smaller draft model with the same tokenizer"""
    regex: Annotated[str, option("REGEX")] = ""
    """sample: the text must match this regular expression (extra `constrain`)"""
    json_schema: Annotated[str, option("FILE")] = ""
    """sample: the text must be JSON that matches the schema in this file (extra `constrain`)"""

    def validate(
        self, samples: int, seed: int | None, context_overflow: ContextOverflow | None = None
    ) -> None:
        """Check that no flag would be ignored by the chosen strategy.

        Args:
            samples: number of continuations of each prompt.
            seed: of `--seed`; None where it is not set.
            context_overflow: of `--context-overflow`; None where it is not set.
        Raises:
            UserError: names the flag and the strategies that it applies to.
        """
        from llm_scratch.generation.strategies import settings_of, strategies_with

        used = settings_of(self.decoder)
        is_set = [*self._settings(context_overflow)]
        is_set += (["seed"] if seed is not None else []) + (["samples"] if samples > 1 else [])
        for name in is_set:
            if name not in used:
                flag, others = f"--{name.replace('_', '-')}", ", ".join(strategies_with(name))
                raise UserError(
                    f"{flag} has no effect with --decoder {self.decoder}; it applies to {others}"
                )
        if self.decoder == "speculative" and not self.draft:
            raise UserError(
                "--decoder speculative needs a draft model;"
                " add --draft RUN, or use --decoder lookup"
            )

    def is_random(self) -> bool:
        """Whether another seed gives another text."""
        from llm_scratch.generation.strategies import settings_of

        return "seed" in settings_of(self.decoder)

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
            context_overflow: what happens when the context is full;
                None is "slide", and for a beam "stop".
            streaming: `max_new_tokens`, `stop` and `top`, as in `decode.stream_batch`.
        Returns:
            (number of the sample, piece of text), in the order of generation.
        Raises:
            UserError: the prompt is longer than the context,
                and `context_overflow` is "stop" (code 3).
        """
        from llm_scratch.generation.decode import encode_prompt, stream_batch
        from llm_scratch.generation.memory_check import check_rows

        n_tokens = len(encode_prompt(model, tokenizer, prompt)) + streaming["max_new_tokens"]
        check_rows(model, samples, n_tokens)
        if context_overflow == "stop":
            _check_prompt_fits(model, tokenizer, prompt)
        settings = self._settings(context_overflow)
        if self.draft:
            settings["draft"] = _load_draft(self.draft, model)
        if self.json_schema:
            from llm_scratch.cli.prompts import read_text_argument

            settings["json_schema"] = read_text_argument(self.json_schema)
        first_seed = seed if self.is_random() else None
        return stream_batch(
            model,
            tokenizer,
            [prompt],
            samples=samples,
            seed=first_seed,
            strategy=self.decoder,
            **settings,
            **streaming,
        )

    def _settings(self, context_overflow: ContextOverflow | None) -> dict[str, Any]:
        """The flags that are set, by the names of their settings in Python."""
        own = {f.name: getattr(self, f.name) for f in fields(DecodingFlags) if f.name != "decoder"}
        own |= {"logit_bias": None, "context_overflow": context_overflow} | self.kwargs()
        if self.decoder == "beam" and context_overflow == "stop":
            del own["context_overflow"]  # a beam always stops
        return {name: value for name, value in own.items() if value not in (None, "")}


def _load_draft(run: str, model: nn.Module) -> nn.Module:
    """The draft model of `--draft`, on the device and in the data type of the model."""
    from llm_scratch.cli.folders import resolve_model_path
    from llm_scratch.generation.dtype import bits_of
    from llm_scratch.loading import load
    from llm_scratch.model.introspection import device_of

    draft, _ = load(resolve_model_path(run), str(device_of(model)))
    return draft if bits_of(draft) else draft.to(next(model.parameters()).dtype)


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
            f"the prompt has {n_prompt} tokens, more than the context of {size};"
            " shorten it, or leave out --context-overflow stop",
            DATA,
        )
