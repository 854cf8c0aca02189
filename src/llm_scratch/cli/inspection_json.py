"""The result of `inspect` as a dict for `--json`; docs/json.md lists the keys.

Tests: tests/cli/test_json.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_scratch.evaluation.head_skills import SkillChange
    from llm_scratch.evaluation.inspection import Ablation, Contribution, Inspection, Weighted


def inspection_json(
    model: Path,
    device: str,
    prompt: str,
    inspection: Inspection,
    ablation: Ablation | None,
    skills: Sequence[SkillChange] | None,
) -> dict[str, Any]:
    """The result of `inspect`; `ablation` and `skills` as far as they were requested."""
    rows = [
        {"text": row.text, "bits": row.model_bits, "grammar_bits": row.grammar_bits}
        for row in inspection.surprises
    ]
    lens = [
        {"after": row.layer, "kl_bits": row.kl_bits, "next": shares_json(row.top)}
        for row in inspection.lens
    ]
    heads = [
        {
            "rule": rule,
            "head": f"{head.layer}.{head.head}",
            "attention": head.score,
            "attention_if_uniform": head.uniform,
        }
        for rule, head in inspection.heads.items()
    ]
    return {
        "model": model,
        "device": device,
        "prompt": prompt,
        "tokens": rows,
        "logit_lens": lens,
        "contributions": [contribution_json(part) for part in inspection.contributions],
        "heads": heads,
        "ablation": ablation and ablation_json(ablation, skills),
    }


def contribution_json(part: Contribution) -> dict[str, Any]:
    """What a part of the model adds to the logit of the next token."""
    return {
        "part": part.part,
        "logits": part.logits,
        "attends_to": part.attends and part.attends.text,
        "attention": part.attends and part.attends.share,
    }


def ablation_json(ablation: Ablation, skills: Sequence[SkillChange] | None) -> dict[str, Any]:
    """The model with parts switched off; `skills` is null where they were not requested."""
    if skills is None:
        changes = None
    else:
        changes = [
            {
                "skill": change.skill,
                "accuracy": change.accuracy,
                "accuracy_ablated": change.ablated,
                "change_low": change.interval[0],
                "change_high": change.interval[1],
                "questions": change.n,
            }
            for change in skills
        ]
    return {
        "parts": ablation.parts,
        "bits_before": ablation.bits_before,
        "bits_after": ablation.bits_after,
        "next_before": shares_json(ablation.before),
        "next_after": shares_json(ablation.after),
        "skills": changes,
    }


def shares_json(tokens: Iterable[Weighted]) -> list[dict[str, Any]]:
    """Tokens with their probabilities."""
    return [{"text": token.text, "probability": token.share} for token in tokens]
