"""Which part of a model serves which skill: accuracy with a head or network ablated.

The grammar determines the right answer of every probe. A skill that falls when a part is ablated
needs that part (`skill_changes`). A head that attends to earlier mentions of the answer, where the
answer comes next, may recall it (`answer_attention`).
Tests: tests/evaluation/test_head_skills.py (equal to a model with those weights set to zero).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from llm_scratch.data.stories import HELD_OUT, SKILLS, generate_story
from llm_scratch.errors import unknown
from llm_scratch.evaluation.loss import first_token
from llm_scratch.evaluation.skills import score_choices
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.heads import stack_patterns
from llm_scratch.interpretability.patching import Part, ablate, feed_forward, head
from llm_scratch.model.introspection import device_of
from llm_scratch.ranges import check
from llm_scratch.tokenizers.special import encode_continuation

N_REFERENCE_STORIES = 16
"""Stories over which the mean of mean ablation is taken."""


class SkillChange(NamedTuple):
    """The accuracy of a skill without a part of the model.

    Attributes:
        part: "1.3" is head 3 of block 1, "1.mlp" its feed-forward network.
        skill: one of `SKILLS`.
        n: number of probes.
        accuracy: of the whole model.
        ablated: without the part.
        stderr: standard error of `change`; probes of the same story are counted as dependent.
    """

    part: str
    skill: str
    n: int
    accuracy: float
    ablated: float
    stderr: float

    @property
    def change(self) -> float:
        """The accuracy that the part costs (negative) or gains when it is ablated."""
        return self.ablated - self.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of `change`."""
        return self.change - 1.96 * self.stderr, self.change + 1.96 * self.stderr


def known_parts(model: Any) -> dict[str, Part]:
    """Every head and feed-forward network of a model: name -> part."""
    parts: dict[str, Part] = {}
    for layer, block in enumerate(model.trf_blocks):
        parts |= {f"{layer}.{number}": head(layer, number) for number in range(block.att.num_heads)}
        parts[f"{layer}.mlp"] = feed_forward(layer)
    return parts


def check_parts(known: Mapping[str, Part], names: str) -> str:
    """The names if every part of "0.1+0.2" is known.

    Raises:
        UserError: one is not; suggests the nearest.
    """
    for name in names.split("+"):
        if name not in known:
            raise unknown("part", name, known)
    return names


def skill_changes(
    model: Any,
    tokenizer: Any,
    parts: Sequence[str] | None = None,
    n_stories: int = 100,
    by: Literal["zero", "mean"] = "mean",
) -> list[SkillChange]:
    """The change of every skill when each part is ablated, one part at a time.

    Args:
        model: a plain model in eval mode, trained on the stories.
        tokenizer: its tokenizer.
        parts: names as from `known_parts` (default: all of them). Ablate several together with "+":
            "0.1+0.2".
        n_stories: validation stories; each has about 11 probes.
        by: "mean" replaces a part by its mean over stories, "zero" by zero.
    Raises:
        UserError: an unknown part, or as `measure_skills`.
    """
    check("n_stories", n_stories)
    known = known_parts(model)
    named = list(known) if parts is None else [check_parts(known, name) for name in parts]
    stories = [generate_story(HELD_OUT + i) for i in range(n_stories)]
    probes = [probe for story in stories for probe in story.probes]
    story_of = [number for number, story in enumerate(stories) for _ in story.probes]
    before = score_choices(model, tokenizer, probes)
    reference = reference_ids(model, tokenizer) if by == "mean" else None
    changes = []
    for name in named:
        with ablate(model, *(known[part] for part in name.split("+")), by=by, reference=reference):
            after = score_choices(model, tokenizer, probes)
        for skill in SKILLS:
            indices = [i for i, probe in enumerate(probes) if probe.skill == skill]
            if indices:
                old, new = [before[i] for i in indices], [after[i] for i in indices]
                changes.append(_change(name, skill, old, new, [story_of[i] for i in indices]))
    return changes


def _change(
    part: str, skill: str, before: Sequence[bool], after: Sequence[bool], story_of: Sequence[int]
) -> SkillChange:
    n = len(before)
    mean = (sum(after) - sum(before)) / n
    by_story: dict[int, float] = {}
    for old, new, story in zip(before, after, story_of, strict=True):
        by_story[story] = by_story.get(story, 0.0) + (new - old - mean)
    stderr = math.sqrt(sum(total**2 for total in by_story.values())) / n
    return SkillChange(part, skill, n, sum(before) / n, sum(after) / n, stderr)


@torch.no_grad()
def answer_attention(model: Any, tokenizer: Any, n_stories: int = 40) -> dict[str, Tensor]:
    """Attention of every head to earlier mentions of the answer, summed, [L, H] for each skill.

    It is measured from the token before the answer.

    Probes whose answer was not mentioned before, such as the next number, are left out, and so is a
    skill that has only such probes.

    Args:
        model: a plain model in eval mode, trained on the stories.
        tokenizer: its tokenizer.
        n_stories: validation stories.
    """
    check("n_stories", n_stories)
    attended: dict[str, list[Tensor]] = {skill: [] for skill in SKILLS}
    for seed in range(HELD_OUT, HELD_OUT + n_stories):
        story = generate_story(seed)
        ids = torch.tensor(
            [first_token(model, tokenizer), *tokenizer.encode(story.text)], device=device_of(model)
        )
        with capture(model, "*.hook_pattern") as acts:
            model(ids[None])
        patterns = stack_patterns(acts)[:, 0]  # [L, H, T, T]
        for probe in story.probes:
            # the token before the answer, after the first token
            query = len(tokenizer.encode(probe.prompt))
            mentions = ids[: query + 1] == encode_continuation(tokenizer, probe.answer)[0]
            if mentions.any():
                attended[probe.skill].append(
                    patterns[:, :, query, : query + 1][..., mentions].sum(-1)
                )
    return {skill: torch.stack(rows).mean(0) for skill, rows in attended.items() if rows}


def reference_ids(model: Any, tokenizer: Any) -> Tensor:
    """Stories to take means over, cut to the shortest one: [N_REFERENCE_STORIES, T]."""
    stories = [generate_story(HELD_OUT + i).text for i in range(N_REFERENCE_STORIES)]
    rows = [[first_token(model, tokenizer), *tokenizer.encode(story)] for story in stories]
    shortest = min(map(len, rows))
    return torch.tensor([row[:shortest] for row in rows], device=device_of(model))
