"""Settings of one text in generation: its length, samplers, penalties, stop strings and seed.

`GenerationConfig` is what `stream(...)` makes from its keywords, and what `Engine.add` takes for
each row. What each sampler does: docs/decoding.md.
Tests: tests/generation/test_strategies.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from llm_scratch.errors import UserError, unknown
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.generation.sampling import SAMPLERS
from llm_scratch.ranges import check_fields

ContextOverflow = Literal["slide", "stop"]
DEFAULT_MAX_TOKENS = 64
DEFAULT_TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Settings of one generated text: its length, samplers, penalties, stop strings and seed.

    Raises:
        UserError: a number out of range, an empty stop string, both a regex and a JSON schema, or
            mirostat at temperature 0.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    """maximum number of new tokens"""
    stop: tuple[str, ...] = ()
    """strings that end the text; they are not part of it"""
    stop_at_eot: bool = True
    """end at the end-of-text token, which is never part of the text"""
    context_overflow: ContextOverflow = "slide"
    """if the context is full: "slide" drops the oldest token at each step, "stop" ends the text"""
    top: int | None = None
    """each chunk has the log-probabilities of its token and of this many most likely tokens;
    None: no log-probabilities
    """
    seed: int | None = None
    """the same seed gives the same text, alone or in a batch; None: PyTorch's default generator"""
    temperature: float = DEFAULT_TEMPERATURE
    """0 is greedy, 1 samples from the model's distribution"""
    top_k: int | None = None
    """sample only from this many most likely tokens"""
    top_p: float | None = None
    """nucleus sampling: only the most likely tokens that together reach this probability"""
    min_p: float | None = None
    """only tokens whose probability is at least this fraction of the highest"""
    typical_p: float | None = None
    """only tokens closest to the entropy that together reach this probability"""
    eta_cutoff: float | None = None
    """drop tokens below a probability cutoff that decreases with the entropy"""
    mirostat: float | None = None
    """target of the mean surprise, in bits per token"""
    logit_bias: Mapping[int, float] | None = None
    """token id -> value added to its logit"""
    repetition_penalty: float | None = None
    """factor that lowers the logits of tokens that occurred already"""
    presence_penalty: float | None = None
    """subtracted once from the logit of each token that occurred already"""
    frequency_penalty: float | None = None
    """subtracted from the logit of a token for each time that it occurred"""
    no_repeat_ngram_size: int | None = None
    """never generate an n-gram of this length twice"""
    regex: str | None = None
    """the text must match this regular expression (extra `constrain`)"""
    json_schema: str | None = None
    """the text must be JSON that matches this schema (extra `constrain`)"""
    extra_samplers: Mapping[str, Any] = field(default_factory=dict)
    """values of samplers and penalties that were added to `SAMPLERS` and `PENALTIES`"""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise UserError(f"stop: {self.stop!r} is one string; pass a tuple of strings")
        object.__setattr__(self, "stop", tuple(self.stop))
        if "" in self.stop:
            raise UserError("a stop string is empty; expected at least one character")
        check_fields(self)
        if self.mirostat is not None and self.temperature == 0:
            raise UserError(
                "mirostat: has no effect at temperature=0, which is greedy;"
                " leave out one of the two",
            )
        if self.regex is not None and self.json_schema is not None:
            raise UserError(
                "a constraint is either a regular expression or a JSON schema; pass one of the two",
            )

    @classmethod
    def of(cls, **settings: Any) -> GenerationConfig:
        """Create a config from keywords, of which None means the default.

        Raises:
            UserError: a name that is neither a field nor a sampler; names the nearest.
        """
        names = {f.name for f in fields(cls)}
        added = (SAMPLERS.keys() | PENALTIES.keys()) - names
        for name in settings.keys() - names - added:
            raise unknown("setting", name, names | added)
        set_values = {name: value for name, value in settings.items() if value is not None}
        extra = {name: set_values.pop(name) for name in set_values.keys() & added}
        return replace(cls(**set_values), extra_samplers=extra) if extra else cls(**set_values)

    def sampling(self) -> dict[str, Any]:
        """The samplers and penalties that are set, as keywords of `sampling.process_logits`."""
        named = {name: getattr(self, name, None) for name in (*PENALTIES, *SAMPLERS)}
        set_values = {name: value for name, value in named.items() if value is not None}
        return set_values | dict(self.extra_samplers)
