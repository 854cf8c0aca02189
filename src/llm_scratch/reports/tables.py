"""Render a report's tables: skills, plan, settings, machine, command.

Tests: tests/reports/test_page.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_scratch.config import config_hash
from llm_scratch.data.stories import example_probes
from llm_scratch.evaluation.skill_results import SkillExample
from llm_scratch.formatting import format_bytes, format_count, format_duration, quote, shell_command
from llm_scratch.reports.contents import RunReport
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.settings import GROUPS, flatten, train_words

SKILL_MEANING = {
    "name": "recall who a story is about",
    "pronoun": "agree he, she, his, her with a name",
    "object": "remember an object and its location",
    "count": "continue a count to its number",
    "order": "name places in reverse order",
}


def skills(report: RunReport) -> Html:
    """Each skill compared with chance, with an example; empty for a text without skills."""
    title = element("h2", "Skills")
    if report.skills is None:
        if not report.run.config.data.is_stories:
            return Html()
        command = shell_command("evaluate", report.run.path, "--skills")
        note = element(
            "p",
            "Not measured yet: measured at the end of training, or by ",
            element("code", command),
            ".",
        )
        return element("section", title, note)
    header = ("skill", "correct", "chance", "", "questions")
    rows: list[tuple[str | Html, ...]] = []
    for score in report.skills.scores:
        meaning = SKILL_MEANING.get(score.skill, "")
        name = element("span", element("strong", score.skill), f" {meaning}")
        correct = f"{score.accuracy:.1%} ± {score.stderr:.1%}"
        rows.append(
            (
                name,
                correct,
                f"{score.chance:.1%}",
                meter(score.accuracy, score.chance),
                f"{score.n:,}",
            )
        )
    about = (
        f"On stories that were not trained on: {report.skills.bits_per_byte:.4f} bits per byte"
        f" (entropy of the stories: {report.skills.floor_bits_per_byte:.4f}). The mark on each bar"
        " is chance."
    )
    if report.skills.step is not None and report.skills.step < report.step:
        about += f" Measured at step {report.skills.step:,}, before training was continued."
    return element(
        "section",
        title,
        element("p", about, class_="dim"),
        table(header, rows, "skills"),
        *_examples(report),
    )


def meter(share: float, mark: float | None = None) -> Html:
    """A bar for a share from 0 to 1, with a mark."""
    parts = [element("i", style=f"width:{_percent(share)}")]
    if mark is not None:
        parts.append(element("b", style=f"left:{_percent(mark)}"))
    return element("span", *parts, class_="meter")


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


def _examples(report: RunReport) -> list[Html]:
    """An example question of each skill, with the model's answers if they were recorded."""
    assert report.skills is not None
    known = {example.skill: example for example in report.skills.examples}
    measured = {score.skill for score in report.skills.scores}
    cards = [element("h3", "Examples")]
    for probe in example_probes():
        if probe.skill in measured:
            example = known.get(probe.skill) or SkillExample(
                probe.skill, probe.prompt, (probe.answer, *probe.others), ()
            )
            cards.append(_example(example))
    return cards


def _example(example: SkillExample) -> Html:
    cells: list[Html] = []
    best = max(example.probabilities, default=None)
    for number, answer in enumerate(example.answers):
        kind = "true" if number == 0 else ""
        cells.append(element("span", f"{answer.strip()}{' ✓' if number == 0 else ''}", class_=kind))
        if number < len(example.probabilities):
            share = example.probabilities[number]
            cells += [element("span", f"{share:.1%}", class_=kind), meter(share)]
        else:
            cells += [element("span"), element("span")]
    is_right = best is not None and example.probabilities[0] == best
    verdict = (
        "" if best is None else (" · the model is right" if is_right else " · the model is wrong")
    )
    heading = element("h3", f"{example.skill}{verdict}")
    return element(
        "div",
        heading,
        element("p", f"{example.prompt} …", class_="dim"),
        element("div", *cells, class_="answers"),
        class_="skill",
    )


def plan(report: RunReport) -> Html:
    """The predicted and the measured values."""
    took = report.measured
    planned = report.plan
    if not took and planned is None:
        return Html()
    title = element("h2", "Plan and measurement")
    measures = (
        ("peak_memory", "peak memory", format_bytes),
        ("seconds_per_step", "time of a step", lambda value: f"{value:.3g} s"),
        ("seconds", "whole run", format_duration),
    )
    rows: list[tuple[str | Html, ...]] = []
    for key, name, shown in measures:
        is_known = key in took and (key != "seconds" or report.state == "finished")
        value = shown(took[key]) if is_known else "–"
        if planned is None:
            rows.append((name, value))
            continue
        predicted = getattr(planned, key)
        off = f"{predicted / took[key] - 1:+.0%}" if is_known and took[key] else "–"
        rows.append((name, shown(predicted), value, off))
    if planned is None:
        note = "The run has no plan, as short runs do, so there are only measurements."
        return element(
            "section",
            title,
            element("p", note, class_="dim"),
            table(("", "measured"), rows),
            class_="whole",
        )
    about = f"Predicted before the first step, from {planned.trial}."
    return element(
        "section",
        title,
        element("p", about, class_="dim"),
        table(("", "predicted", "measured", "off by"), rows),
        class_="whole",
    )


def settings(report: RunReport) -> Html:
    """The settings that differ from the nearest preset, then all settings."""
    shown = element("code", report.preset)
    if report.changes:
        n = len(report.changes)
        intro = element(
            "p", f"{n} setting{'s differ' if n > 1 else ' differs'} from the preset ", shown, ":"
        )
        rows = [
            (change.name, _value(change.value), _value(change.preset_value))
            for change in report.changes
        ]
        first = [intro, table(("setting", "this run", "preset"), rows)]
    else:
        first = [element("p", "All settings are those of the preset ", shown, ".")]
    values = flatten(report.run.config)
    groups = []
    for group in GROUPS:
        pairs = [
            (name.partition(".")[2], value)
            for name, value in values.items()
            if name.startswith(f"{group}.")
        ]
        entries = [
            part
            for name, value in pairs
            for part in (element("dt", name), element("dd", _value(value)))
        ]
        groups.append(element("section", element("h3", group), element("dl", *entries)))
    everything = element("div", *groups, class_="settings")
    return element(
        "section",
        element("h2", "Settings"),
        *first,
        element("h3", f"All settings (hash {config_hash(report.run.config)})"),
        everything,
    )


def _value(value: Any) -> str:
    """A setting's value as the command line takes it, in at most 200 characters."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    words = str(value)
    return (words if len(words) <= 200 else f"{words[:200]}…") or "(empty)"


def machine(report: RunReport) -> Html:
    """Machine and versions of the run."""
    return environment_table(report.environment)


def environment_table(known: Mapping[str, Any]) -> Html:
    """Machine and versions from the content of an env.json, which may be empty."""
    title = element("h2", "Machine and versions")
    if not known:
        return element("section", title, element("p", "The run directory has no valid env.json."))
    names = {
        "processor": "processor",
        "device": "device",
        "threads": "threads",
        "machine": "system",
        "llm_scratch": "llm-scratch",
        "commit": "commit",
        "python": "Python",
        "torch": "torch",
    }
    rows: list[tuple[str | Html, ...]] = [
        (name, str(known[key])) for key, name in names.items() if known.get(key)
    ]
    rate = known.get("matrix_rate")
    if isinstance(rate, (int, float)) and rate > 0:
        rows.append(
            ("matmul speed", f"{format_count(rate)}FLOP/s, measured at the start of the run")
        )
    return element("section", title, table((), rows, "words"), class_="whole")


def reproduction(report: RunReport) -> Html:
    """The command that trains this model again."""
    title = element("h2", "Reproduce")
    run = report.run
    if report.state == "quantized":
        words = ["quantize", run.origin or "RUN", "--bits", str(run.bits)]
        return element("section", title, element("pre", shell_command(*words)))
    if report.state == "imported":
        return element(
            "section",
            title,
            element("pre", shell_command("import", run.origin, "--out", "runs/again")),
        )
    command = f"llm-scratch {quote(*train_words(run.config, report.preset, 'runs/again'))}"
    note = (
        "On the same machine, with the same versions and threads, every loss is identical;"
        " elsewhere it differs by rounding."
    )
    if run.config.data.source.partition(":")[0] not in ("stories", "verdict", "shakespeare"):
        note += f" The training text is needed too: {_value(run.config.data.source)}."
    return element(
        "section", title, element("pre", command), element("p", note, class_="dim"), class_="whole"
    )
