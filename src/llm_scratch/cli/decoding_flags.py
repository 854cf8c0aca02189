"""The flags that choose a way of writing, and the texts it writes, row by row. Proof: tests/cli/test_decoders.py."""

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


@dataclass(frozen=True, kw_only=True)
class DecodingFlags(SamplingFlags):
    """Which way of writing, and its settings. A flag that a way would ignore is an error."""

    decoder: Literal["sample", "beam", "contrastive", "speculative", "lookup"] = "sample"
    """sample draws, beam finds the likeliest text, contrastive avoids what was said; speculative and lookup draw with guesses"""
    beams: Annotated[int | None, option("INT")] = None
    """beam: how many beginnings to keep (4 unless given); --samples prints that many of the best"""
    length_penalty: Annotated[float | None, option("FLOAT")] = None
    """beam: 0 favours short texts, 1 compares means a token (unless given), above favours long ones"""
    candidates: Annotated[int | None, option("INT")] = None
    """contrastive: among how many tokens to look (4 unless given)"""
    alpha: Annotated[float | None, option("FLOAT")] = None
    """contrastive: 0 is greedy, 1 looks at novelty alone (0.6 unless given)"""
    draft_tokens: Annotated[int | None, option("INT")] = None
    """speculative, lookup: tokens to guess at once (4 unless given)"""
    draft: Annotated[str, option("RUN")] = ""
    """speculative: a smaller model of the same tokenizer, which guesses"""
    regex: Annotated[str, option("REGEX")] = ""
    """sample: the text must match this expression (extra `constrain`)"""
    json_schema: Annotated[str, option("FILE")] = ""
    """sample: the text must be JSON of the schema in this file (extra `constrain`)"""

    def check_decoder(self, samples: int, seed: int | None, on_full: ContextOverflow | None = None) -> None:
        """Refuse flags that the chosen way would ignore.

        Raises:
            UserError: names the flag and the ways that know it.
        """
        ways = {"beams": "beam", "length_penalty": "beam", "candidates": "contrastive", "alpha": "contrastive"}
        ways |= {"draft_tokens": "speculative lookup", "draft": "speculative", "regex": "sample", "json_schema": "sample"}
        ways |= dict.fromkeys(self.settings(), "sample speculative lookup") | {"mirostat": "sample"}
        given = self.settings() | {name: value for name in ways if (value := getattr(self, name)) not in (None, "")}
        for name in given:
            if self.decoder not in ways[name].split():
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} says nothing to --decoder {self.decoder}; it is for {ways[name].replace(' ', ', ')}")
        chance = self.decoder not in ("beam", "contrastive")
        if not chance and seed is not None:
            raise UserError(f"--seed says nothing to --decoder {self.decoder}, which draws nothing")
        if self.decoder == "beam" and on_full == "slide":
            raise UserError(
                "--context-overflow slide says nothing to --decoder beam, which compares whole texts and stops where the context is full"
            )
        if self.decoder == "contrastive" and samples > 1:
            raise UserError("contrastive search writes one text and no other; leave out --samples")
        if self.decoder == "speculative" and not self.draft:
            raise UserError("--decoder speculative needs --draft RUN, a smaller model of the same tokenizer; lookup needs none")

    def rows(
        self, model: nn.Module, tokenizer: Tokenizer, prompt: str, seed: int, samples: int, on_full: ContextOverflow | None, **more: Any
    ) -> TokenStream:
        """(sample, piece) of each continuation of a prompt, as they come; `more` as in `decode.stream_rows`.

        Raises:
            UserError: a prompt that is longer than the context, where the text is to stop there (code 3).
        """
        from llm_scratch.generation.decode import encode_prompt, stream_batch
        from llm_scratch.generation.memory_check import check_rows

        on_full = on_full or "slide"
        check_rows(model, samples, len(encode_prompt(model, tokenizer, prompt)) + more["max_new_tokens"])
        if on_full == "stop":
            _check_room(model, tokenizer, prompt)
        if self.decoder == "sample":
            form = self._constraint(tokenizer)
            settings = self.settings() | ({} if form is None else {"constraint": form})
            seeds = [seed + number for number in range(samples)]
            return stream_batch(model, tokenizer, [prompt], samples=samples, seeds=seeds, on_full=on_full, **settings, **more)
        ways = self._ways(model, tokenizer, prompt, seed, samples, on_full, more["max_new_tokens"])
        return (
            (row, piece) for row, write in enumerate(ways) for _, piece in stream_batch(model, tokenizer, [prompt], write=write, **more)
        )

    def _ways(
        self, model: nn.Module, tokenizer: Tokenizer, prompt: str, seed: int, samples: int, on_full: ContextOverflow, tokens: int
    ) -> Iterator[Callable[..., Any]]:
        """One way of writing for each sample."""
        import torch

        from llm_scratch.generation import beam, contrastive, speculative
        from llm_scratch.generation.decode import encode_prompt, seeded
        from llm_scratch.model.introspection import device_of
        from llm_scratch.tokenizers.special import end_of_text

        vocab: dict[str, Any] = {"n_vocab": tokenizer.n_vocab}
        if self.decoder == "beam":
            idx = torch.tensor([encode_prompt(model, tokenizer, prompt)], device=device_of(model))
            search = {"width": max(self.beams or 4, samples), "n_best": samples, "eos_id": end_of_text(tokenizer), **vocab}
            penalty = 1.0 if self.length_penalty is None else self.length_penalty
            found = beam.beam_search(model, idx, max_new_tokens=tokens, length_penalty=penalty, **search)
            yield from (partial(beam.beam_steps, best=best) for best in found)
        elif self.decoder == "contrastive":
            alpha = 0.6 if self.alpha is None else self.alpha
            yield partial(contrastive.contrastive, k=self.candidates or 4, alpha=alpha, on_full=on_full, **vocab)
        else:
            draft = self._draft(model)
            settings = {"temperature": 0.8} | self.settings() | vocab
            for number in range(samples):
                chance = seeded(seed + number, device_of(model))
                propose: Any = partial(speculative.prompt_lookup, **vocab)
                if draft is not None:
                    propose = speculative.DraftModel(draft, chance, **settings)
                guess = {"propose": propose, "n_guesses": self.draft_tokens or 4, "generator": chance, "on_full": on_full}
                yield partial(speculative.speculative, **guess, **settings)

    def _draft(self, model: nn.Module) -> nn.Module | None:
        """The model that guesses; None for lookup."""
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
        """What the text must keep to; None without a form."""
        from llm_scratch.generation.constrain import Constraint

        if not self.regex and not self.json_schema:
            return None
        return Constraint(
            tokenizer, regex=self.regex or None, json_schema=read_text_argument(self.json_schema) if self.json_schema else None
        )


def _check_room(model: nn.Module, tokenizer: Tokenizer, prompt: str) -> None:
    """Refuse a prompt after which there is nothing to be written before the context is full."""
    from llm_scratch.generation.decode import encode_prompt
    from llm_scratch.model.introspection import context_length

    length, size = len(encode_prompt(model, tokenizer, prompt)), context_length(model)
    if size is not None and length > size:
        raise UserError(f"the prompt has {length} tokens and the model sees {size}; shorten it, or leave out --context-overflow stop", DATA)
