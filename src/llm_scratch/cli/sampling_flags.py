"""Sampling flags of `generate` and `chat`: temperature, top-k, top-p, penalties, logit bias.

Tests: tests/cli/test_samplers.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from llm_scratch.cli.flags import option
from llm_scratch.errors import UserError
from llm_scratch.ranges import check


@dataclass(frozen=True, kw_only=True)
class SamplingFlags:
    """One flag for each of `sampling.SAMPLERS` and `penalties.PENALTIES`, and mirostat.

    They apply in the order of those tables, whatever the order on the command line.
    """

    temperature: Annotated[float | None, option("FLOAT")] = None
    """divide the logits by this: 0 is greedy,
    1 samples from the model's distribution (default: 0.8)
    """
    top_k: Annotated[int | None, option("INT")] = None
    """sample only from this many most probable tokens"""
    top_p: Annotated[float | None, option("FLOAT")] = None
    """nucleus sampling: only the most probable tokens that together reach this probability"""
    min_p: Annotated[float | None, option("FLOAT")] = None
    """only tokens whose probability is at least this fraction of the highest"""
    typical_p: Annotated[float | None, option("FLOAT")] = None
    """locally typical sampling:
    tokens closest to the entropy that together reach this probability
    """
    eta_cutoff: Annotated[float | None, option("FLOAT")] = None
    """drop tokens below an entropy-dependent probability cutoff, such as 3e-4"""
    mirostat: Annotated[float | None, option("BITS")] = None
    """target surprisal in bits per token, such as 3 to 5"""
    repetition_penalty: Annotated[float | None, option("FLOAT")] = None
    """penalty factor for the logits of tokens that occurred already, such as 1.2"""
    presence_penalty: Annotated[float | None, option("FLOAT")] = None
    """subtract this once from the logit of each token that occurred already"""
    frequency_penalty: Annotated[float | None, option("FLOAT")] = None
    """subtract this from the logit of a token for each time it occurred"""
    no_repeat_ngram_size: Annotated[int | None, option("INT")] = None
    """never generate an n-gram of this length twice"""
    logit_bias: Annotated[str, option("ID=BIAS,...")] = ""
    """add to the logits of token ids, such as 262=-100,11=2.5; `tokenizer show` prints ids"""

    def kwargs(self) -> dict[str, Any]:
        """The flags that are set, as keyword arguments of `steps.build_sampler`.

        Raises:
            UserError: --logit-bias is not ID=BIAS,..., or a number is out of range.
        """
        values = {f.name: getattr(self, f.name) for f in fields(SamplingFlags)}
        values["logit_bias"] = _parse_logit_bias(self.logit_bias) if self.logit_bias else None
        for name, value in values.items():
            check(name, value, f"--{name.replace('_', '-')}")
        return {name: value for name, value in values.items() if value is not None}


def _parse_logit_bias(text: str) -> dict[int, float]:
    """`262=-100,11=2.5` as token id -> what to add to its logit."""
    try:
        return {
            int(token): float(bias) for token, bias in (word.split("=") for word in text.split(","))
        }
    except ValueError as e:
        raise UserError(
            f"--logit-bias is {text!r}; expected ID=BIAS pairs, such as 262=-100,11=2.5"
        ) from e
