"""Measure the heads of the quickstart, draw the pictures of docs/inside.md, write its tables.

python docs/inside_figures.py runs/inside

Trains the quickstart into that folder first if it is not there, and keeps every checkpoint in its
folder `film`. Some five minutes on two cores.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from llm_scratch import load
from llm_scratch.data.stories import HELD_OUT, SKILLS, generate_story
from llm_scratch.evaluation.head_skills import (
    SkillChange,
    answer_attention,
    known_parts,
    reference_ids,
    skill_changes,
)
from llm_scratch.evaluation.skills import measure_skills, score_choices
from llm_scratch.evaluation.story_surprise import token_surprises
from llm_scratch.formatting import show_whitespace
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.heads import head_scores, uniform_scores
from llm_scratch.interpretability.jacobian_lens import fit_jacobian_lens
from llm_scratch.interpretability.lenses import kl_to_final_bits, logit_lens
from llm_scratch.presets import preset
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

PAGE = Path(__file__).with_name("inside.md")
PICTURES = Path(__file__).with_name("inside")
COLORS = dict(zip(SKILLS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")))
SAVE_EVERY = 100
N_STORIES, N_FILM_STORIES, N_QUESTION_STORIES = 100, 40, 300
NO_CHOICE_BITS = 0.01
"""Surprise under the grammar below which the text before a token leaves no choice."""


class KeepCheckpoints(Callback):
    """Copy every checkpoint of a run into its folder `film`, as the run keeps the newest only."""

    def step(self, run: Any, row: dict[str, float]) -> None:
        """Copy those that are new."""
        for folder in list_checkpoints(run.folder):
            kept = run.folder / "film" / folder.name
            if not kept.exists():
                shutil.copytree(folder, kept)

    def finished(self, run: Any) -> None:
        """Copy the last one."""
        self.step(run, {})


def film(run: Path) -> dict[int, Path]:
    """The checkpoints of a quickstart: step -> folder. Trains it if there are none."""
    if not (run / "film").is_dir():
        train(
            preset("quickstart").override([f"train.save_every={SAVE_EVERY}"]),
            run,
            callbacks=[KeepCheckpoints()],
        )
    return {
        int(folder.name.removeprefix("step-")): folder
        for folder in sorted((run / "film").glob("step-*"))
    }


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; numbers are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def skills_table(changes: list[SkillChange]) -> str:
    """Change of each skill in points when a part is ablated; bold if the interval excludes 0."""
    by_part: dict[str, list[str]] = {}
    for change in changes:
        low, high = change.interval
        points = f"{round(100 * change.change):+d}"
        by_part.setdefault(change.part, []).append(
            f"**{points}**" if low > 0 or high < 0 else points
        )
    whole = [f"{change.accuracy:.0%}" for change in changes[: len(SKILLS)]]
    return table(
        ["without", *SKILLS],
        [["nothing", *whole], *([part, *cells] for part, cells in by_part.items())],
    )


def heads_table(model: Any, ids: torch.Tensor) -> str:
    """Every head by the rules of attention, on stories."""
    scores, uniform = head_scores(model, ids), uniform_scores(ids)
    n_layers, n_heads = scores["previous"].shape
    rows = [
        [f"{layer}.{head}", *(f"{scores[rule][layer, head]:.0%}" for rule in scores)]
        for layer in range(n_layers)
        for head in range(n_heads)
    ]
    return table(
        ["head", *scores], [*rows, ["uniform", *(f"{share:.0%}" for share in uniform.values())]]
    )


def surprise_table(model: Any, tokenizer: Any) -> str:
    """Where the model's surprise exceeds the grammar's: tokens without a choice, and others."""
    n = {"no choice": 0, "choice": 0}
    bits = {"no choice": [0.0, 0.0], "choice": [0.0, 0.0]}
    for seed in range(HELD_OUT, HELD_OUT + N_FILM_STORIES):
        for row in token_surprises(
            model, tokenizer, [model.start_id, *tokenizer.encode(generate_story(seed).text)]
        ):
            kind = "no choice" if (row.grammar_bits or 0) < NO_CHOICE_BITS else "choice"
            n[kind] += 1
            bits[kind][0] += row.model_bits or 0
            bits[kind][1] += row.grammar_bits or 0
    rows = [
        [
            kind,
            f"{n[kind] / N_FILM_STORIES:.1f}",
            *(f"{abs(total) / N_FILM_STORIES:.1f}" for total in bits[kind]),
        ]
        for kind in n
    ]
    return table(["tokens of a story", "tokens", "bits, model", "bits, grammar"], rows)


def count_table(model: Any, tokenizer: Any) -> str:
    """Accuracy of counting by kind: numbers of a list, its end, one more, one less."""
    probes = [
        probe
        for i in range(N_QUESTION_STORIES)
        for probe in generate_story(HELD_OUT + i).probes
        if probe.skill == "count"
    ]
    answers: dict[str, list[bool]] = {}
    for probe, right in zip(probes, score_choices(model, tokenizer, probes), strict=True):
        listed = (
            "the last number of a list" if probe.prompt.endswith(",") else "one more, or one less"
        )
        answers.setdefault("that a list ends" if probe.answer == "." else listed, []).append(right)
    return table(
        ["question", "right", "of"],
        [[kind, f"{sum(given)}", f"{len(given)}"] for kind, given in answers.items()],
    )


def mistakes_table(model: Any, tokenizer: Any) -> str:
    """Wrong answers by skill, and how many of them are at the beginning of a sentence."""
    probes = [
        probe
        for i in range(N_QUESTION_STORIES)
        for probe in generate_story(HELD_OUT + i).probes
        if probe.skill != "count"
    ]
    wrong = [
        probe
        for probe, right in zip(probes, score_choices(model, tokenizer, probes), strict=True)
        if not right
    ]
    rows = []
    for skill in [skill for skill in SKILLS if skill != "count"]:
        asked, missed = (
            [probe for probe in group if probe.skill == skill] for group in (probes, wrong)
        )
        at_start = [
            sum(probe.prompt.endswith((".", '"')) for probe in group) for group in (missed, asked)
        ]
        rows.append(
            [skill, f"{len(missed)} of {len(asked):,}", f"{at_start[0]} of {at_start[1]:,}"]
        )
    return table(["skill", "wrong", "of those at the beginning of a sentence"], rows)


def lens_table(model: Any, tokenizer: Any) -> str:
    """Distance of each layer's prediction to the final one, through two lenses."""
    stories = [
        [model.start_id, *tokenizer.encode(generate_story(HELD_OUT + i).text)] for i in range(48)
    ]
    lens = fit_jacobian_lens(model, stories[:32])
    shortest = min(map(len, stories[32:]))
    ids = torch.tensor([story[:shortest] for story in stories[32:]])
    plain, jacobian = (
        kl_to_final_bits(logits).mean((1, 2)).tolist()
        for logits in (logit_lens(model, ids), lens(model, ids))
    )
    names = ["embedding", *(f"block {layer}" for layer in range(len(plain) - 1))]
    rows = [
        [name, f"{a:.1f}", f"{b:.1f}"] for name, a, b in zip(names, plain, jacobian, strict=True)
    ]
    return table(["after", "logit lens", "Jacobian lens"], rows)


Head = tuple[int, int]


def strongest(scores: torch.Tensor, n: int) -> list[Head]:
    """The heads (layer, head) of the n highest scores in [L, H]."""
    return [divmod(int(index), scores.shape[1]) for index in scores.flatten().topk(n).indices]


def draw_history(checkpoints: dict[int, Path], lines: list[tuple[str, Head]]) -> None:
    """Accuracy of skills, and attention to the answer by each line's head, over training."""
    accuracy: dict[str, list[float]] = {skill: [] for skill in SKILLS}
    attention: list[list[float]] = [[] for _ in lines]
    for folder in checkpoints.values():
        model, tokenizer = load(folder)
        for skill, score in measure_skills(model, tokenizer, N_FILM_STORIES).items():
            accuracy[skill].append(score.accuracy)
        attended = answer_attention(model, tokenizer, N_FILM_STORIES)
        for (skill, head), values in zip(lines, attention):
            values.append(attended[skill][head].item())
    steps = list(checkpoints)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.6), dpi=150, layout="constrained", sharey=True
    )
    for skill, values in accuracy.items():
        left.plot(steps, values, color=COLORS[skill], lw=2, label=skill)
    for number, ((skill, (layer, head)), values) in enumerate(zip(lines, attention)):
        style = "--" if skill in [earlier for earlier, _ in lines[:number]] else "-"
        right.plot(
            steps,
            values,
            style,
            color=COLORS[skill],
            lw=2,
            label=f"head {layer}.{head} to the {skill}",
        )
    left.set(title="share of right answers", xlabel="step", ylim=(0, 1.02))
    right.set(title="attention to the answer where it comes next", xlabel="step")
    for axes in (left, right):
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "history.png")
    plt.close(figure)


def draw_attention(model: Any, tokenizer: Any, heads: list[Head]) -> None:
    """Attention patterns of some heads on the beginning of a story."""
    ids = [model.start_id, *tokenizer.encode(generate_story(HELD_OUT + 3).text)][:36]
    with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
        model(torch.tensor([ids]))
    names = ["start", *(show_whitespace(tokenizer.decode([token])) for token in ids[1:])]
    figure, axes = plt.subplots(
        1, len(heads), figsize=(7 * len(heads), 7.4), dpi=110, layout="tight", squeeze=False
    )
    for panel, (layer, head) in zip(axes[0], heads):
        panel.imshow(
            acts[f"blocks.{layer}.attn.hook_pattern"][0, head], cmap="cividis", vmin=0, vmax=1
        )
        panel.set_xticks(range(len(ids)), names, rotation=90, fontsize=8, family="monospace")
        panel.set_yticks(range(len(ids)), names, fontsize=8, family="monospace")
        panel.set(title=f"head {layer}.{head}: each row attends to its columns")
    figure.savefig(PICTURES / "attention.png")
    plt.close(figure)


def fill(page: str, name: str, content: str) -> str:
    """The page with the content between the two comments of this name replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    replaced, n = re.subn(
        f"{begin}.*?{end}", lambda _: f"{begin}\n{content}\n{end}", page, flags=re.S
    )
    if n != 1:
        raise ValueError(
            f"{PAGE}: {n} places for {name!r}; expected one, between {begin} and {end}"
        )
    return replaced


def main(run: Path) -> None:
    """Measure, draw, and write the tables into the page."""
    checkpoints = film(run)
    model, tokenizer = load(checkpoints[max(checkpoints)])
    PICTURES.mkdir(exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    ids = reference_ids(model, tokenizer)
    tables = {
        "skills": skills_table(
            skill_changes(model, tokenizer, list(known_parts(model)), N_STORIES)
        ),
        "heads": heads_table(model, ids),
        "surprise": surprise_table(model, tokenizer),
        "counting": count_table(model, tokenizer),
        "mistakes": mistakes_table(model, tokenizer),
        "lenses": lens_table(model, tokenizer),
    }
    for name, content in tables.items():
        page = fill(page, name, content)
    attended = answer_attention(model, tokenizer, N_FILM_STORIES)
    of_names, of_objects = strongest(attended["name"], 1), strongest(attended["object"], 2)
    draw_history(
        checkpoints,
        [*(("name", head) for head in of_names), *(("object", head) for head in of_objects)],
    )
    draw_attention(model, tokenizer, list(dict.fromkeys([*of_names, *of_objects])))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
