"""Print the skills of a model trained on stories, with bits per byte, entropy and chance.

Tests: tests/cli/test_train.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_scratch.cli.terminal import keeps_lines, table

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from llm_scratch.evaluation.skill_results import SkillResults
    from llm_scratch.tokenizers import Tokenizer


def print_skills(
    console: Console, model: nn.Module, tokenizer: Tokenizer, step: int | None = None
) -> SkillResults:
    """Measure on stories outside the training text, print a table and return the results.

    Args:
        step: optimizer steps of its run, if known.
    """
    from llm_scratch.evaluation.skill_results import SkillResults
    from llm_scratch.evaluation.skills import measure_skills, skill_examples, story_bits_per_byte

    bits, floor = story_bits_per_byte(model, tokenizer)
    skills = measure_skills(model, tokenizer)
    grid = table("skill", "accuracy", "chance", "questions")
    for name, score in skills.items():
        grid.add_row(
            name,
            f"{score.accuracy:.1%} ± {score.stderr:.1%}",
            f"{score.chance:.1%}",
            f"{score.n:,}",
        )
    line = (
        f"New stories: {bits:.4f} bits per byte,"
        f" {bits / floor - 1:.1%} above the grammar's entropy of {floor:.4f}."
    )
    console.print(f"\n{line}\n", soft_wrap=keeps_lines(console))
    console.print(grid)
    return SkillResults(
        bits, floor, tuple(skills.values()), tuple(skill_examples(model, tokenizer)), step
    )
