"""The flags that say how a token is chosen, shared by `generate` and `chat`. Proof: tests/cli/test_samplers.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from llm_scratch.cli.flags import option
from llm_scratch.errors import UserError
from llm_scratch.ranges import check


@dataclass(frozen=True, kw_only=True)
class SamplingFlags:
    """One flag for each name of `sampling.SAMPLERS` and `penalties.PENALTIES`, and mirostat; they act in the order of those tables."""

    temperature: Annotated[float | None, option("FLOAT")] = None
    """0 takes the likeliest token each time; 1 draws as the model says; above, wilder (0.8 unless given)"""
    top_k: Annotated[int | None, option("INT")] = None
    """draw among this many likeliest tokens only"""
    top_p: Annotated[float | None, option("FLOAT")] = None
    """draw among the likeliest tokens that together have this probability"""
    min_p: Annotated[float | None, option("FLOAT")] = None
    """draw among the tokens at least this many times as likely as the best"""
    typical_p: Annotated[float | None, option("FLOAT")] = None
    """draw among the tokens that surprise about as much as expected, up to this probability"""
    eta_cutoff: Annotated[float | None, option("FLOAT")] = None
    """drop tokens below a probability that sinks as the model grows unsure, such as 3e-4"""
    mirostat: Annotated[float | None, option("BITS")] = None
    """keep the text this surprising, in bits a token: 3 is plain, 5 lively"""
    repetition_penalty: Annotated[float | None, option("FLOAT")] = None
    """divide the scores of what was said by this, such as 1.2"""
    presence_penalty: Annotated[float | None, option("FLOAT")] = None
    """take this from the score of what was said, however often"""
    frequency_penalty: Annotated[float | None, option("FLOAT")] = None
    """take this from the score of what was said, for each time"""
    no_repeat_ngram_size: Annotated[int | None, option("INT")] = None
    """never say a run of this many tokens twice"""
    logit_bias: Annotated[str, option("ID=BIAS,...")] = ""
    """add to the scores of tokens, such as 262=-100,11=2.5; `tokenizer show` prints ids"""

    def settings(self) -> dict[str, Any]:
        """The flags that were given, as `steps.chooser` takes them.

        Raises:
            UserError: --logit-bias that is not ID=BIAS,..., or a number out of range.
        """
        given = {f.name: getattr(self, f.name) for f in fields(SamplingFlags)}
        given["logit_bias"] = _biases(self.logit_bias) if self.logit_bias else None
        for name, value in given.items():
            check(name, value, f"--{name.replace('_', '-')}")
        return {name: value for name, value in given.items() if value is not None}


def _biases(words: str) -> dict[int, float]:
    try:
        return {int(token): float(bias) for token, bias in (word.split("=") for word in words.split(","))}
    except ValueError as e:
        raise UserError(f"--logit-bias is {words!r}; expected ids and what to add, such as 262=-100,11=2.5") from e
