"""`inspect`: what tokens, layers and heads of a model do on a text, and what ablation changes.

Tests: tests/cli/test_inspect.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.device import load_model
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.inspection_json import inspection_json
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines, print_note, table
from llm_scratch.errors import USAGE, UserError
from llm_scratch.formatting import sanitize, shell_command, show_whitespace
from llm_scratch.run_directory import RunInfo, run_of

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.evaluation.head_skills import SkillChange
    from llm_scratch.evaluation.inspection import Ablation, Inspection, Weighted
    from llm_scratch.evaluation.story_surprise import TokenSurprise

MAX_TOKENS, MAX_PARTS = 10, 6
"""Rows of the tables of tokens and of parts; the largest values are shown."""
N_STORIES = 40
"""Stories with the questions of `--skills`."""
MIN_SHARE = 0.005
"""Probability below which a token is left out."""
MIN_COLUMNS = 60
"""Width of a terminal on which tokens are side by side."""


@dataclass(frozen=True)
class Inspect(ReportCommand):
    """See what the layers and heads of the model in RUN do on PROMPT.

    Surprise is -log2 of a token's probability. Head 1.3 is head 3 of block 1.

    examples:
      llm-scratch inspect quickstart "The story of Anna, Tom and the kite"
      llm-scratch inspect quickstart --ablate 1.2 --skills
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    prompt: Positional[Annotated[str, option("PROMPT")]] = ""
    """the text to inspect;
    "-" reads standard input (default: a story up to a name, or the prompt of the run's samples)
    """
    ablate: Annotated[str, option("PARTS")] = ""
    """set parts to zero and show what changes:
    a head (1.3), a feed-forward network (1.mlp), several (1.3+0.mlp)
    """
    skills: Flag = False
    """with --ablate, for a model trained on stories: also measure its skills without the parts"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Inspect and print tables."""
        from llm_scratch.cli.prompts import read_text_argument
        from llm_scratch.evaluation.head_skills import skill_changes
        from llm_scratch.evaluation.inspection import inspect_ablation, inspect_text
        from llm_scratch.generation.decode import encode_prompt

        if self.skills and not self.ablate:
            raise UserError(
                "--skills: has no effect without --ablate;"
                " add --ablate PARTS, or use `llm-scratch evaluate --skills`",
                USAGE,
            )
        path, screen = resolve_model_path(self.run_), console()
        run = run_of(path)
        prompt = (
            read_text_argument("-") if self.prompt == "-" else self.prompt or default_prompt(run)
        )
        if not prompt:
            raise UserError(f"inspect: no PROMPT, and {self.run_} records none; give one", USAGE)
        model, tokenizer, description = load_model(path, self.device, generates=False)
        ids = encode_prompt(model, tokenizer, prompt)
        inspection = inspect_text(model, tokenizer, ids)
        ablation = inspect_ablation(model, tokenizer, ids, self.ablate) if self.ablate else None
        with screen.status("measuring skills …"):
            if self.skills:
                changes = skill_changes(model, tokenizer, [self.ablate], N_STORIES, by="zero")
            else:
                changes = None
        if self.json:
            print_json(inspection_json(path, description, prompt, inspection, ablation, changes))
            return
        screen.print(sanitize(prompt), style="italic", soft_wrap=keeps_lines(screen))
        print_inspection(screen, inspection, of_stories(run))
        if ablation:
            print_ablation(screen, ablation)
        if changes:
            print_skill_changes(screen, changes)
        head = next((part.part for part in inspection.contributions if part.attends), None)
        if head and not self.ablate:
            print_note(
                "\nwithout its strongest head:"
                f" {shell_command('inspect', self.run_, '--ablate', head)}",
                screen,
            )
        print_note(f"[{description}]")


def of_stories(run: RunInfo | None) -> bool:
    """Whether a run was trained on the stories, whose probabilities are known."""
    return run is not None and run.config.data.is_stories


def default_prompt(run: RunInfo | None) -> str:
    """A story that was never trained on, up to a name, or the prompt of the run's samples."""
    from llm_scratch.data.stories import example_probes

    if run is None:
        return ""
    return example_probes()[0].prompt if of_stories(run) else run.config.train.prompt


def print_inspection(screen: Console, inspection: Inspection, has_truth: bool) -> None:
    """Print the tables of a text."""
    known = [row for row in inspection.surprises if row.model_bits is not None]
    if known:
        print_surprises(screen, known, has_truth)
    print_title(
        screen,
        "Prediction from the residual stream after each layer (logit lens),"
        " and its KL divergence from the final one in bits",
    )
    grid = table("after", "most probable", "bits", left=2)
    for layer in inspection.lens:
        grid.add_row(layer.layer, in_words(screen, layer.top), f"{layer.kl_bits:.2f}")
    screen.print(grid)
    first, second = (show_whitespace(token.text) for token in inspection.lens[-1].top[:2])
    print_title(
        screen,
        f"Why {first} and not {second}: what each part adds to the difference of their logits",
    )
    grid = table("part", "attends to", "adds", left=2)
    for part in inspection.contributions[:MAX_PARTS]:
        grid.add_row(
            part.part,
            in_words(screen, [part.attends] if part.attends else []),
            f"{part.logits:+.2f}",
        )
    screen.print(grid)
    print_title(
        screen,
        "Heads by attention pattern; duplicate and induction are measured on random tokens"
        " that occur twice",
    )
    grid = table("rule", "head", "attention", "if uniform", left=2)
    for rule, head in inspection.heads.items():
        grid.add_row(rule, f"{head.layer}.{head.head}", f"{head.score:.0%}", f"{head.uniform:.0%}")
    screen.print(grid)


def print_surprises(screen: Console, known: Sequence[TokenSurprise], has_truth: bool) -> None:
    """Print the surprise of a text, and its most surprising tokens in the order of the text."""
    title = (
        f"{len(known)} tokens, {mean_of(row.model_bits for row in known):.2f} bits of surprise each"
    )
    if has_truth and all(row.grammar_bits is not None for row in known):
        title += (
            f"; {mean_of(row.grammar_bits for row in known):.2f} for the grammar,"
            " which has the true probabilities"
        )
    print_title(screen, title)
    top = sorted(range(len(known)), key=lambda i: -(known[i].model_bits or 0))[:MAX_TOKENS]
    grid = table(
        "most surprising" if len(known) > len(top) else "token",
        "bits",
        *(["grammar"] if has_truth else []),
    )
    for row in (known[i] for i in sorted(top)):
        truth = "–" if row.grammar_bits is None else f"{row.grammar_bits:.2f}"
        grid.add_row(
            show_whitespace(row.text), f"{row.model_bits:.2f}", *([truth] if has_truth else [])
        )
    screen.print(grid)


def mean_of(values: Iterable[float | None]) -> float:
    """The mean of the values that are not None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def print_title(screen: Console, text: str) -> None:
    """Print the line above a table."""
    screen.print(f"\n{text}\n", soft_wrap=keeps_lines(screen))


def in_words(screen: Console, tokens: Sequence[Weighted]) -> str:
    """Tokens with their shares, "·Anna 97%, ·Tom 1%", without those that round to 0%.

    On a narrow terminal, one a line.
    """
    shown = [
        f"{show_whitespace(token.text)} {token.share:.0%}"
        for token in tokens
        if token.share >= MIN_SHARE
    ]
    return ("\n" if screen.width < MIN_COLUMNS else ", ").join(shown)


def print_ablation(screen: Console, ablation: Ablation) -> None:
    """Print what changes without some parts."""
    change = (
        f"surprise changes from {ablation.bits_before:.2f} to {ablation.bits_after:.2f} bits a"
        " token; "
    )
    print_title(
        screen,
        f"Without {ablation.parts}:"
        f" {'' if math.isnan(ablation.bits_before) else change}prediction of the next token",
    )
    grid = table("", "most probable", left=2)
    for name, top in (("with", ablation.before), ("without", ablation.after)):
        grid.add_row(name, in_words(screen, top))
    screen.print(grid)


def print_skill_changes(screen: Console, changes: Sequence[SkillChange]) -> None:
    """Print the accuracy of each skill with and without some parts, and the 95% interval."""
    n_probes = sum(change.n for change in changes)
    print_title(
        screen,
        f"Skills with and without {changes[0].part},"
        f" on {n_probes:,} questions about {N_STORIES} new stories",
    )
    grid = table("skill", "with", "without", "change, 95%")
    for change in changes:
        low, high = change.interval
        grid.add_row(
            change.skill,
            f"{change.accuracy:.0%}",
            f"{change.ablated:.0%}",
            f"{100 * low:+.0f} to {100 * high:+.0f}",
        )
    screen.print(grid)
