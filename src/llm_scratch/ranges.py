"""Valid ranges of all numeric settings: one table for files, flags, chat's `/set`, and Python.

`check("temperature", value)` raises a one-line `UserError`: "temperature: nan is out of range; give
0, or 1e-06 to 1e+06".
Tests: tests/test_ranges.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from llm_scratch.errors import UserError

MAX_COUNT = 2**31 - 1
"""The largest count that all tensor operations support."""
MAX_STEPS = 10**12
MAX_SEED = 2**64 - 1
"""The largest seed of `torch.Generator`."""
MIN_POSITIVE = 1e-12
"""The smallest factor that float32 can multiply and divide by without reaching 0 or infinity."""
MAX_FACTOR = 1e6


@dataclass(frozen=True)
class Range:
    """The valid values of a setting: from `least` to `most`.

    Attributes:
        least, most: the bounds.
        whole: only whole numbers.
        open_least, open_most: the bound itself is excluded.
        zero: 0 is allowed too, although it is below `least`.
        hint: an alternative, such as leaving the setting out.
    """

    least: float
    most: float
    whole: bool = False
    open_least: bool = False
    open_most: bool = False
    zero: bool = False
    hint: str = ""

    def __contains__(self, value: Any) -> bool:
        """Whether `value` is a number in the range; NaN is not."""
        if not isinstance(value, Integral if self.whole else Real) or isinstance(value, bool):
            return False
        number: Any = value
        if self.zero and number == 0:
            return True
        above = number > self.least if self.open_least else number >= self.least
        below = number < self.most if self.open_most else number <= self.most
        return bool(above and below)

    def __str__(self) -> str:
        """The range in words: "0, or 1e-06 to 1e+06"; "a whole number from 1 to 100"."""
        least, most = (
            str(bound) if self.whole else f"{bound:g}" for bound in (self.least, self.most)
        )
        zero = "0, or " if self.zero else ""
        if self.open_least or self.open_most:
            lower = f"{'above' if self.open_least else 'at least'} {least}"
            upper = f"{'below' if self.open_most else 'at most'} {most}"
            words = f"{zero}a number {lower} and {upper}"
        else:
            if self.whole:
                words = f"{zero}a whole number from {least} to {most}"
            else:
                words = f"{zero}{least} to {most}"
        return f"{words}{f', {self.hint}' if self.hint else ''}"


class OutOfRange(UserError):
    """A value that is outside the range of its setting.

    Args:
        name: of the setting, a key of `RANGES`.
        value: the invalid one.
        allowed: the range.
        shown: the setting as the user wrote it, such as `--train.lr`; "" for `name`.
    """

    def __init__(self, name: str, value: Any, allowed: Range, shown: str = "") -> None:
        super().__init__(f"{shown or name}: {value} is out of range; give {allowed}")
        self.name, self.value, self.allowed = name, value, allowed

    def shown_as(self, shown: str) -> OutOfRange:
        """A copy with the setting as the user wrote it."""
        return OutOfRange(self.name, self.value, self.allowed, shown)


def count(least: int = 1, most: int = MAX_COUNT, hint: str = "") -> Range:
    """A range of whole numbers."""
    return Range(least, most, whole=True, hint=hint)


LEAVE_OUT = "or leave it out"
SHARE = Range(0, 1, open_least=True, hint=LEAVE_OUT)
SIZE = Range(-MAX_FACTOR, MAX_FACTOR)
BPE_VOCAB = count(257, 1_000_000)  # 256 bytes and the end-of-text token

RANGES: dict[str, Range] = {
    # model
    "vocab_size": count(),
    "context_length": count(),
    "emb_dim": count(most=2**24),
    "n_heads": count(most=2**24),
    "n_layers": count(most=10_000),
    "drop_rate": Range(0, 1, open_most=True),
    "ff_dim": count(most=2**26, hint="or None"),
    "norm_eps": Range(MIN_POSITIVE, 1),
    "n_kv_heads": count(most=2**24, hint="or None"),
    "head_dim": count(most=2**24, hint="or None"),
    "rope_base": Range(1, 1e12, open_least=True),
    "rope_factor": Range(1, MAX_FACTOR),
    "rope_trained_context": count(hint="or None"),
    "rope_low_freq": Range(MIN_POSITIVE, MAX_FACTOR),
    "rope_high_freq": Range(MIN_POSITIVE, MAX_FACTOR),
    "rope_beta_slow": Range(MIN_POSITIVE, MAX_FACTOR),
    "rope_beta_fast": Range(MIN_POSITIVE, MAX_FACTOR),
    "rope_attention_factor": Range(MIN_POSITIVE, MAX_FACTOR, hint="or None"),
    "rope_local_base": Range(1, 1e12, open_least=True, hint="or None"),
    "no_rope_every": count(hint="or None"),
    "full_every": count(hint="or None"),
    "window_from_layer": count(0),
    "query_size": count(hint="or None"),
    "attention_softcap": Range(MIN_POSITIVE, MAX_FACTOR, hint="or None"),
    "logit_softcap": Range(MIN_POSITIVE, MAX_FACTOR, hint="or None"),
    "n_experts": count(most=2**20),
    "experts_per_token": count(most=2**20),
    "expert_dim": count(most=2**26, hint="or None"),
    "balance_loss": Range(0, MAX_FACTOR),
    "balance_rate": Range(0, MAX_FACTOR),
    "gate_limit": Range(MIN_POSITIVE, MAX_FACTOR),
    "gate_slope": Range(MIN_POSITIVE, MAX_FACTOR),
    "latent_dim": count(most=2**24, hint="or None"),
    "query_latent_dim": count(most=2**24, hint="or None"),
    "rotated_dim": count(most=2**24, hint="or None"),
    "value_dim": count(most=2**24, hint="or None"),
    "score_scale": Range(MIN_POSITIVE, MAX_FACTOR),
    "n_dense_layers": count(0, 10_000),
    "n_shared_experts": count(0, 2**20),
    "n_groups": count(most=2**20),
    "groups_per_token": count(most=2**20),
    "weight_scale": Range(MIN_POSITIVE, MAX_FACTOR),
    "n_key_heads": count(most=2**24, hint="or None"),
    "n_value_heads": count(most=2**24, hint="or None"),
    "key_dim": count(most=2**24, hint="or None"),
    "conv_size": count(most=2**16),
    "shared_dim": count(most=2**26, hint="or None"),
    # data
    "val_fraction": Range(0, 1, open_least=True, open_most=True),
    "tokenizer_sample": count(most=10**15, hint=LEAVE_OUT),
    # training
    "steps": count(most=MAX_STEPS),
    "epochs": count(hint=LEAVE_OUT),
    "batch_size": count(),
    "micro_batches": count(),
    "lr": Range(MIN_POSITIVE, MAX_FACTOR),
    "min_lr": Range(0, MAX_FACTOR),
    "warmup_steps": count(0, MAX_STEPS),
    "weight_decay": Range(0, MAX_FACTOR),
    "betas": Range(0, 1, open_most=True),
    "grad_clip": Range(MIN_POSITIVE, 1e12, hint="or None"),
    "spike_sigmas": Range(0, MAX_FACTOR),
    "rollback_lr": Range(MIN_POSITIVE, 1),
    "seed": count(0, MAX_SEED),
    "eval_every": count(most=MAX_STEPS),
    "eval_batches": count(most=MAX_STEPS, hint="or None"),
    "save_every": count(most=MAX_STEPS),
    "sample_every": count(0, MAX_STEPS),
    "snapshot_every": count(0, MAX_STEPS),
    "log_every": count(most=MAX_STEPS),
    "seeds": count(2, 1000),
    "jobs": count(1, 1000),
    "smallest_effect": Range(MIN_POSITIVE, MAX_FACTOR, hint=LEAVE_OUT),
    "minutes": Range(0.01, 1e6),
    "port": count(0, 65_535),
    # sampling
    "temperature": Range(1e-6, MAX_FACTOR, zero=True),
    "top_k": count(hint=LEAVE_OUT),
    "top_p": SHARE,
    "min_p": Range(0, 1, hint=LEAVE_OUT),
    "typical_p": SHARE,
    "eta_cutoff": Range(0, 1, open_least=True, open_most=True, hint=LEAVE_OUT),
    "mirostat": Range(MIN_POSITIVE, 1000),
    "mirostat rate": Range(MIN_POSITIVE, 1000),
    "repetition_penalty": Range(1e-3, 1e3),
    "presence_penalty": SIZE,
    "frequency_penalty": SIZE,
    "no_repeat_ngram_size": count(hint=LEAVE_OUT),
    "logit_bias": SIZE,
    # decoding strategies and lengths
    "beams": count(most=1000),
    "length_penalty": Range(-10, 10),
    "candidates": count(most=1000),
    "alpha": Range(0, 1),
    "draft_tokens": count(most=1000),
    "top": count(0),
    "samples": count(most=10**6),
    "max_tokens": count(0),
    "max_new_tokens": count(0),
    "context_size": count(),
    "prefill_chunk": count(),
    "stride": count(),
    "n_stories": count(),
    # commands
    "window": count(),
    "prefix_tokens": count(),
    "workers": count(0, 1024),
    "heads": count(most=2**24, hint=LEAVE_OUT),
    "shard_tokens": count(most=10**12),
    "PlayGame.width": count(most=2**24, hint=LEAVE_OUT),
    "PlayGame.tokens": count(most=10**12, hint=LEAVE_OUT),
    "PlayGame.predict": Range(0, MAX_FACTOR, open_least=True, hint=LEAVE_OUT),
    "PlayGame.best_width": count(most=2**24, hint=LEAVE_OUT),
    "CompareDecoding.max_tokens": count(),
    "TrainTokenizer.vocab_size": BPE_VOCAB,
    "CompareTokenizers.vocab_size": BPE_VOCAB,
    "PrepareData.vocab_size": BPE_VOCAB,
}
"""Name of a setting -> its range; `Class.name` if a command has a narrower range."""


def range_of(name: str, owner: str = "") -> Range | None:
    """The range of a setting.

    Args:
        name: the field, such as "lr".
        owner: the name of its class, which may have its own range.
    Returns:
        None for a setting that is not a number, or is not in the table.
    """
    return RANGES.get(f"{owner}.{name}", RANGES.get(name))


def check(name: str, value: Any, shown: str = "", owner: str = "") -> None:
    """Check that a number is in the range of its setting; None means not set.

    Args:
        name: the setting, a key of `RANGES`; other names are not checked.
        value: a number, or several in a tuple or as values of a dict.
        shown: the setting as the user wrote it, such as `--temperature`.
        owner: as in `range_of`.
    Raises:
        OutOfRange: names the setting, the value and the range.
    """
    allowed = range_of(name, owner)
    if allowed is not None:
        check_in(name, value, allowed, shown)


def check_in(name: str, value: Any, allowed: Range, shown: str = "") -> None:
    """Check a number against a range that is not in the table.

    Raises:
        OutOfRange: names the setting, the value and the range.
    """
    if value is None:
        return
    if isinstance(value, Mapping):
        several = tuple(value.values())
    else:
        several = value if isinstance(value, tuple) else (value,)
    for number in several:
        if number not in allowed:
            raise OutOfRange(name, number, allowed, shown)


def check_fields(config: Any) -> None:
    """Check every field of a dataclass.

    Raises:
        OutOfRange: names the first one.
    """
    for name in config.__dataclass_fields__:
        if range_of(name, type(config).__name__) is not None:
            check(name, getattr(config, name), owner=type(config).__name__)
