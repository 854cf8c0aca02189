"""Render the report of a run as one HTML page without network access, scripts or other files.

`write_report` writes the page; `render` makes its text from what `contents.collect` has read.
Tests: tests/reports/test_page.py.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from llm_scratch.formatting import counted, format_count, format_duration, shell_command
from llm_scratch.reports.chart import legend, loss_chart
from llm_scratch.reports.contents import RunReport, Sample, collect, spread_out
from llm_scratch.reports.diagnosis import Finding
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.style import STYLE
from llm_scratch.reports.tables import machine, plan, reproduction, settings, skills
from llm_scratch.storage.files import atomic_write

EVALUATION_ROWS = 8
SEVERITY = {"problem": "Problem", "warning": "Warning", "ok": "OK"}
STATUS = {
    "finished": ("ok", "finished"),
    "running": ("warning", "still training"),
    "stopped": ("warning", "stopped before its last step"),
    "diverged": ("problem", "diverged"),
    "not started": ("warning", "not trained yet"),
    "imported": ("ok", "imported model"),
    "quantized": ("ok", "quantized model"),
}


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run directory; returns the path of the page.

    Args:
        run: the run directory.
        out: the HTML file (default: report.html in the run directory).
    Raises:
        UserError: not a run directory, or the file cannot be written.
    """
    path = Path(run)
    out = path / "report.html" if out is None else Path(out)
    atomic_write(out, render(collect(path)))
    return out


def render(report: RunReport) -> str:
    """The page of a report."""
    if report.state in ("quantized", "imported"):
        training = []
    else:
        training = [_loss, _diagnosis, _samples, skills, plan, machine]
    sections = [make(report) for make in [_header, *training, settings, reproduction]]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{report.name}: training report"),
        element("style", Html(STYLE)),
    )
    body = element("body", element("main", *(section for section in sections if section)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(report: RunReport) -> Html:
    """Name, state, a summary sentence and the key figures."""
    kind, words = STATUS[report.state]
    changed = time.strftime("%Y-%m-%d", time.localtime(report.run.changed))
    where = element("p", f"{report.run.path.resolve()} · {changed}", class_="dim where")
    parts = [
        element("h1", report.name),
        where,
        element("span", words, class_=f"status {kind}"),
        element("p", _summary(report)),
    ]
    if note := _state_note(report):
        parts.append(element("p", note, class_="dim"))
    return element("header", *parts, _tiles(report))


def _summary(report: RunReport) -> str:
    """Model and training text in a sentence."""
    model = report.run.config.model
    data = report.run.config.data
    layers = counted(model.n_layers, "layer")
    description = (
        f"A {model.architecture} model of {format_count(model.n_params)} parameters: {layers} of"
        f" width {model.emb_dim}, {model.n_heads} heads, a context of {model.context_length:,}"
        f" tokens and a vocabulary of {model.vocab_size:,} ({data.tokenizer})."
    )
    if report.state == "quantized":
        return f"{report.run.description.capitalize()}. {description}"
    if report.state == "imported":
        return f"Imported from {report.run.origin}. {description}"
    start = f" It starts from {report.run.config.init_from}." if report.run.config.init_from else ""
    return f"{description} Training text: {_source(data.source)}.{start}"


def _source(source: str) -> str:
    """A source in at most 200 characters: a list of files can be long."""
    return source if len(source) <= 200 else f"{source[:200]}…"


def _state_note(report: RunReport) -> str:
    """What the run's state leaves out of the report, and how to continue."""
    path = report.run.path
    steps = f"{report.run.steps:,}" if report.run.steps else "its"
    resume = shell_command("train", "--resume", path)
    if report.state == "quantized":
        return (
            "This model was not trained in this form, so it has no loss curve,"
            " samples or training settings."
        )
    if report.state == "imported":
        return "This model was not trained here, so it has no loss curve and no samples."
    if report.state == "running":
        return (
            f"This page shows the first {report.step:,} of {steps} steps."
            " Write it again when training is done."
        )
    if report.state == "stopped":
        if report.run.step:
            saved = f"; the last checkpoint is of step {report.run.step:,}"
        else:
            saved = "; no checkpoint was saved"
        return (
            f"Training was stopped or killed at step {report.step:,} of {steps}{saved}."
            f" Resume it with: {resume}"
        )
    if report.state == "diverged":
        return f"Losses or weights were not finite after step {report.step:,} of {steps}."
    if report.state == "finished":
        return ""
    return "The run directory has settings, but no training step yet."


def _tiles(report: RunReport) -> Html:
    """The key figures."""
    best = min((row["val_loss"] for row in report.evaluations), default=None)
    bits = min(
        (row["val_bits_per_byte"] for row in report.evaluations if "val_bits_per_byte" in row),
        default=None,
    )
    tiles: list[tuple[str, str, str]] = []
    if best is not None:
        tiles.append(("Validation loss", f"{best:.3f}", "best, nats per token"))
    if bits is not None:
        tiles.append(("Bits per byte", f"{bits:.3f}", "best, validation"))
        if report.floor is not None:
            above = bits / report.floor.bits_per_byte - 1
            tiles.append(
                ("Above the floor", f"{above:.1%}", f"floor: {report.floor.bits_per_byte:.3f} bits")
            )
    tiles.append(
        (
            "Parameters",
            format_count(report.run.config.model.n_params),
            f"{report.run.bits} bits each",
        )
    )
    if report.tokens:
        epochs = max((row["passes"] for row in report.evaluations if "passes" in row), default=None)
        in_epochs = "" if epochs is None else f", {epochs:.2g} epochs"
        tiles.append(("Tokens", format_count(report.tokens), f"{report.step:,} steps{in_epochs}"))
    if "seconds" in report.measured:
        seconds = report.measured["seconds"]
        tiles.append(("Time", format_duration(seconds), "of training"))
    boxes = [
        element(
            "div", element("dt", name), element("dd", value, *[element("small", note)] * bool(note))
        )
        for name, value, note in tiles
    ]
    return element("dl", *boxes, class_="tiles")


def _loss(report: RunReport) -> Html:
    """The loss chart, and some evaluations as a table."""
    title = element("h2", "Loss")
    if report.lines.is_empty:
        return element("section", title, element("p", "No loss was recorded yet."))
    charts = [
        loss_chart(report.lines, 880, 380, "broad"),
        loss_chart(report.lines, 340, 300, "narrow"),
    ]
    n_vocab = report.run.config.model.vocab_size
    caption = (
        "Nats per token."
        f" Chance level for {n_vocab:,} tokens is ln {n_vocab:,} = {math.log(n_vocab):.2f}."
    )
    figure = element("figure", *charts, legend(report.lines), element("figcaption", caption))
    return element("section", title, figure, _evaluations(report))


def _evaluations(report: RunReport) -> Html:
    """A table of evenly spaced evaluations, with the first and the last."""
    rows = [row for row in report.evaluations if {"train_loss", "val_loss"} <= row.keys()]
    if not rows:
        return Html()
    header = ("step", "tokens", "training loss", "validation loss", "bits per byte")
    body: list[tuple[str | Html, ...]] = []
    for row in spread_out(rows, EVALUATION_ROWS):
        bits = f"{row['val_bits_per_byte']:.4f}" if "val_bits_per_byte" in row else "–"
        body.append(
            (
                f"{row['step']:,.0f}",
                format_count(row.get("tokens", 0)),
                f"{row['train_loss']:.4f}",
                f"{row['val_loss']:.4f}",
                bits,
            )
        )
    return table(header, body)


def _diagnosis(report: RunReport) -> Html:
    """The findings, problems first."""
    title = element("h2", "Diagnosis")
    if not report.findings:
        return element(
            "section",
            title,
            element(
                "p",
                "No curve to check." if report.lines.is_empty else "The run is too short to check.",
            ),
        )
    items = [
        _finding(name, finding)
        for state in SEVERITY
        for name, finding in report.findings.items()
        if finding.state == state
    ]
    return element("section", title, element("ul", *items, class_="findings"))


def _finding(name: str, finding: Finding) -> Html:
    parts = [
        element("p", element("strong", f"{name}: "), finding.summary),
        element("p", finding.evidence, class_="dim"),
    ]
    if finding.advice:
        parts.append(element("p", f"→ {finding.advice}"))
    return element(
        "li", element("b", SEVERITY[finding.state], class_=finding.state), element("div", *parts)
    )


def _samples(report: RunReport) -> Html:
    """Samples of the model from the same prompt in the course of training."""
    title = element("h2", "Samples during training")
    if not report.samples:
        reason = "train.sample_every is 0, or the first sample was not due yet"
        return element("section", title, element("p", f"No samples were generated ({reason})."))
    prompt = report.run.config.train.prompt
    if report.n_samples == len(report.samples):
        which = ""
    else:
        which = f" {len(report.samples)} of {report.n_samples} are shown."
    about = f"The prompt is in bold; temperature 0.8.{which}"
    cards = [_sample(sample, prompt) for sample in report.samples]
    return element("section", title, element("p", about, class_="dim"), *cards, class_="samples")


def _sample(sample: Sample, prompt: str) -> Html:
    begins = bool(prompt) and sample.text.startswith(prompt)
    body = sample.text.removeprefix(prompt) if begins else sample.text
    shown = [element("span", prompt, class_="prompt")] * begins
    heading = element("h3", f"Step {sample.step:,}, after {sample.tokens:,} tokens")
    return element("article", heading, element("p", *shown, body or "(nothing)"))
