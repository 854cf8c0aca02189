"""The lines of code that compute what a view shows, with file and line number.

Tests: tests/serving/test_source_lines.py (every view's key is here, every line exists).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llm_scratch
from llm_scratch.evaluation.head_skills import skill_changes
from llm_scratch.generation import penalties, sampling
from llm_scratch.generation.decode import stream_chunks
from llm_scratch.interpretability.heads import rule_masks
from llm_scratch.interpretability.jacobian_lens import JacobianLens
from llm_scratch.interpretability.lenses import (
    direct_logit_attribution,
    kl_to_final_bits,
    logit_lens,
    read_out,
    surprise_bits,
)
from llm_scratch.interpretability.patching import ablate, activation_patching
from llm_scratch.model.attention import observed_attention
from llm_scratch.storage.snapshots import save_snapshot

SOURCES: dict[str, Callable[..., Any]] = {
    "surprise": surprise_bits,
    "attention": observed_attention,
    "head_scores": rule_masks,
    "attribution": direct_logit_attribution,
    "logit_lens": logit_lens,
    "jacobian_lens": JacobianLens.__call__,
    "read_out": read_out,
    "kl": kl_to_final_bits,
    "ablation": ablate,
    "patching": activation_patching,
    "skills": skill_changes,
    "snapshot": save_snapshot,
    "generate": stream_chunks,
    "process_logits": sampling.process_logits,
    **{
        name: sampling.SAMPLERS[name]
        for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "eta_cutoff")
    },
    **{
        name: getattr(penalties, name)
        for name in (
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "no_repeat_ngram_size",
        )
    },
}
"""name in the page -> the function that computed the number"""


def source_of(function: Callable[..., Any]) -> dict[str, Any]:
    """File, first line and text of a function, without its docstring."""
    function = inspect.unwrap(function)
    lines, start = inspect.getsourcelines(function)
    file = Path(inspect.getsourcefile(function) or "").relative_to(
        Path(llm_scratch.__file__).parent.parent
    )
    document = inspect.getdoc(function)
    text = textwrap.dedent("".join(lines)).rstrip()
    if function.__doc__ and document:
        before, after = text.split('"""', 1)[0], text.split('"""', 2)[2]
        text = before.rstrip() + after
    return {
        "file": f"src/{file.as_posix()}",
        "line": start,
        "summary": (document or "").split("\n")[0],
        "lines": text,
    }


def all_sources() -> Mapping[str, dict[str, Any]]:
    """Every source that the page can show."""
    return {name: source_of(function) for name, function in SOURCES.items()}
