"""The parts that a learner may write, the template for them, and the check of a file.

To add a part: a `Part` in `PARTS`, a check beside the others, and its place in `use.py`.
Tests: tests/own_parts/test_parts.py, tests/own_parts/test_checks.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_scratch.config import GPTConfig, RunConfig
from llm_scratch.errors import UserError, unknown
from llm_scratch.learn.hang_guard import StepLimitError, describe_failure, hang_guard
from llm_scratch.own_parts.attention_part import check_attention
from llm_scratch.own_parts.layer_parts import check_feed_forward, check_gelu, check_layer_norm
from llm_scratch.own_parts.optimizer_parts import check_adamw, check_muon
from llm_scratch.own_parts.sampler_parts import check_temperature, check_top_k, check_top_p
from llm_scratch.own_parts.schedule_part import check_learning_rate
from llm_scratch.own_parts.template import STARTS
from llm_scratch.own_parts.tokenizer_parts import check_encode_word, check_learn_merges
from llm_scratch.own_parts.verdict import Verdict, line
from llm_scratch.storage.files import sha256_of
from llm_scratch.storage.user_code import is_users, run_user_file


@dataclass(frozen=True)
class Part:
    """A part of the model or of its training that a learner may write.

    Attributes:
        check: compares one with the package's, for a run.
        unused: why a run does not use it; "" if it does.
        in_model: whether a model that was trained with a different one needs it to be loaded.
    """

    check: Callable[[Any, RunConfig], Verdict]
    unused: Callable[[RunConfig], str] = lambda config: ""
    in_model: bool = False


def _needs_bpe(config: RunConfig) -> str:
    name = config.data.tokenizer
    return "" if name == "bpe" else f"data.tokenizer is {name}, not bpe"


def _needs_muon(config: RunConfig) -> str:
    name = config.train.optimizer
    return "" if name == "muon" else f"train.optimizer is {name}, not muon"


def _generates_only(config: RunConfig) -> str:
    return "`generate --parts FILE` does"


PARTS: dict[str, Part] = {
    "LayerNorm": Part(lambda part, config: check_layer_norm(part), in_model=True),
    "GELU": Part(lambda part, config: check_gelu(part), in_model=True),
    "FeedForward": Part(lambda part, config: check_feed_forward(part), in_model=True),
    "MultiHeadAttention": Part(lambda part, config: check_attention(part), in_model=True),
    "learn_merges": Part(lambda part, config: check_learn_merges(part), _needs_bpe),
    "encode_word": Part(lambda part, config: check_encode_word(part), _needs_bpe, in_model=True),
    "adamw": Part(lambda part, config: check_adamw(part)),
    "muon": Part(lambda part, config: check_muon(part), _needs_muon),
    "learning_rate": Part(lambda part, config: check_learning_rate(part, config.train)),
    "temperature": Part(lambda part, config: check_temperature(part)),
    "top_k": Part(lambda part, config: check_top_k(part), _generates_only),
    "top_p": Part(lambda part, config: check_top_p(part), _generates_only),
}
"""Name in the learner's file -> part, in the order of the lessons."""


@dataclass(frozen=True)
class PartsFile:
    """A learner's file that has been run.

    Attributes:
        path: the file.
        sha256: of its content.
        values: the parts in it, by name.
    """

    path: Path
    sha256: str
    values: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.path.name} {self.sha256}"

    def written(self, verdicts: Iterable[Verdict]) -> dict[str, Any]:
        """The parts that are written, whether they are equal or not."""
        return {v.part: self.values[v.part] for v in verdicts if v.state != "unfinished"}


def open_parts(path: Path, shown: str) -> PartsFile:
    """Run a learner's file and collect the parts that it defines.

    Args:
        path: the file.
        shown: the file as the user wrote it, for errors, such as `--parts my_parts.py`.
    Raises:
        UserError: no such file, an error or an endless loop in it, or no part.
    """
    try:
        with hang_guard():
            module = run_user_file(path, shown)
    except StepLimitError as e:
        raise UserError(f"{shown}: it {describe_failure(e, line(e))}") from None
    defined = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and is_users(getattr(value, "__module__", None))
    }
    values = {name: defined[name] for name in PARTS if name in defined}
    if not values:
        raise UserError(f"{shown}: it defines no part{_near(defined)}; known: {', '.join(PARTS)}")
    return PartsFile(path, sha256_of(path), values)


def _near(defined: dict[str, Any]) -> str:
    """A name in the file that looks like that of a part, as a hint."""
    lowered = {name.lower().replace("_", ""): name for name in PARTS}
    for name in defined:
        near = difflib.get_close_matches(name.lower().replace("_", ""), lowered, n=1, cutoff=0.8)
        if near:
            return f" ({name} is not a part; did you mean {lowered[near[0]]}?)"
    return ""


def check_parts(file: PartsFile, config: RunConfig) -> list[Verdict]:
    """Compare every part of a file with the package's, for a run with these settings."""
    return [PARTS[name].check(value, config) for name, value in file.values.items()]


def check_settings(config: RunConfig, names: Iterable[str] = PARTS) -> None:
    """Check that a run has the GPT of the lessons, whose parts a learner's file replaces.

    Args:
        config: the settings of the run.
        names: the parts in the file; `learning_rate` needs a schedule that falls to 0.

    Raises:
        UserError: another architecture, or one of its options.
    """
    model, plain = config.model, GPTConfig()
    if model.architecture != plain.architecture:
        raise UserError(
            f"--parts: it needs the GPT of the lessons, and this run has {model.architecture};"
            " use another preset, such as quickstart"
        )
    if config.train.min_lr and "learning_rate" in names:
        raise UserError(
            "--parts: learning_rate falls to 0,"
            f" and this run has train.min_lr={config.train.min_lr}; add --train.min-lr 0"
        )
    for name in ("qkv_bias", "ff_dim", "activation", "norm_eps", "scale_attention_by_layer"):
        if model[name] != plain[name]:
            raise UserError(
                f"--parts: it needs model.{name}={plain[name]}, and this run has {model[name]};"
                " use another preset, such as quickstart"
            )


def template(names: Sequence[str] = ()) -> str:
    """The template: the signatures of parts, to be filled in.

    Args:
        names: of parts; none: all.
    Raises:
        UserError: no such part.
    """
    for name in names:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    chosen = [STARTS[name].strip("\n") for name in PARTS if not names or name in names]
    header = '"""My parts: `llm-scratch learn parts FILE` checks them."""\n\nimport torch\n'
    imports = header + "from torch import nn\n" if "nn.Module" in "".join(chosen) else header
    return "\n\n\n".join([imports.rstrip(), *chosen]) + "\n"
