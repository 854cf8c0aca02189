"""The training film: what a prediction and the heads were at each snapshot of a run.

Tests: tests/serving/test_inspection.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_scratch.data.stories import HELD_OUT, SKILLS, generate_story
from llm_scratch.evaluation.skills import score_choices
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.heads import pattern_scores, stack_patterns
from llm_scratch.interpretability.lenses import surprise_bits
from llm_scratch.serving.arrays import rounded
from llm_scratch.serving.question import Question, integer
from llm_scratch.tokenizers.token_text import token_text

SKILL_STORIES = 8
"""Stories of a skill measurement in the page; each has about 11 probes."""


def film(frames: Sequence[tuple[int, Question]], body: Mapping[str, Any]) -> dict[str, Any]:
    """One row a snapshot: probability of the candidate, best token, surprise, head scores.

    The score "look" is the attention of each head from the position to one key: that of the
    request, or the one that a given head attends to most in the last snapshot.
    """
    if not frames:
        return {"rows": [], "key": None}
    last = frames[-1][1]
    position = integer(body, "position", last.n_tokens - 1)
    candidate = integer(body, "candidate", last.tokenizer.n_vocab - 1)
    key = integer(body, "key", position) if "key" in body else _strongest_key(last, position, body)
    rows = []
    for step, question in frames:
        with question.changed() as model, capture(model, "*.hook_pattern") as acts:
            logits = model(question.ids)[0, position].float()
            pattern = stack_patterns(acts)
            bits = surprise_bits(model, question.ids).mean() if question.n_tokens > 1 else None
        probability = logits.softmax(-1)
        rows.append(
            {
                "step": step,
                "probability": rounded(probability[candidate], 5),
                "best": token_text(question.tokenizer, int(logits.argmax())),
                "bits": None if bits is None else rounded(bits, 3),
                "scores": (
                    {
                        name: rounded(score, 3)
                        for name, score in pattern_scores(pattern, question.ids).items()
                    }
                    | {"look": rounded(pattern[:, 0, :, position, key], 3)}
                ),
            }
        )
    return {"rows": rows, "key": key}


def _strongest_key(question: Question, position: int, body: Mapping[str, Any]) -> int:
    """The position that a head of the request attends to most."""
    layer = integer(body, "layer", len(question.model.trf_blocks) - 1, 0)
    number = integer(body, "head", question.model.trf_blocks[layer].att.num_heads - 1, 0)
    name = f"blocks.{layer}.attn.hook_pattern"
    with question.changed() as model, capture(model, name) as acts:
        model(question.ids)
    return int(acts[name][0, number, position].argmax())


def skills(question: Question) -> dict[str, Any]:
    """How often the model is right on each skill of the stories, whole and ablated."""
    probes = [
        probe
        for number in range(SKILL_STORIES)
        for probe in generate_story(HELD_OUT + number).probes
    ]
    whole = score_choices(question.model, question.tokenizer, probes)
    ablated = whole
    if question.without:
        with question.changed() as model:
            ablated = score_choices(model, question.tokenizer, probes)
    rows = []
    for skill in SKILLS:
        chosen = [number for number, probe in enumerate(probes) if probe.skill == skill]
        rows.append(
            {
                "skill": skill,
                "n": len(chosen),
                "chance": round(
                    sum(1 / (1 + len(probes[i].others)) for i in chosen) / max(1, len(chosen)), 3
                ),
                "right": sum(whole[i] for i in chosen),
                "right_without": sum(ablated[i] for i in chosen),
            }
        )
    return {"skills": rows, "stories": SKILL_STORIES}
