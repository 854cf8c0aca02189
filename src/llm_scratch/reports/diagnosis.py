"""Diagnose a run from its loss curve: problems and warnings, with the evidence and what to try.

Each check is a function from a `Curve` to a `Finding`, or to None if the curve is not conclusive.
To add one, write it and register it in `CHECKS`.
Tests: tests/reports/test_diagnosis.py (each problem on synthetic curves and on real, badly trained
runs; none on healthy ones).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llm_scratch.config import RunConfig
from llm_scratch.evaluation.skill_results import SkillResults
from llm_scratch.reports.curve import Curve

Severity = Literal["ok", "warning", "problem"]
MIN_POINTS = 6  # rows from which a trend is visible


@dataclass(frozen=True)
class Finding:
    """The result of a check: severity, summary, evidence in numbers, and what to try."""

    state: Severity
    summary: str
    evidence: str
    advice: str = ""


def first_loss(curve: Curve) -> Finding | None:
    """The loss of an untrained model is that of uniform probabilities over V tokens: ln V nats."""
    if (initial := curve.first_loss) is None:
        return None
    model = curve.config.model
    uniform = math.log(model.vocab_size)
    evidence = (
        f"{initial:.2f} nats before training;"
        f" chance level is ln {model.vocab_size:,} = {uniform:.2f}"
    )
    if initial > uniform + 1:
        tied = model.get("tie_embeddings") and model.get("init") == "torch"
        cause = "tied to the head, the embeddings are too large" if tied else "use smaller ones"
        flag = ": --model.init gpt2" if "init" in model else ""
        return Finding("problem", "the initial weights are too large", evidence, f"{cause}{flag}")
    if initial < uniform - 1:
        advice = (
            "Expected for pretrained weights;"
            " otherwise check whether the inputs reveal the targets."
        )
        return Finding("warning", "the initial loss is below chance level", evidence, advice)
    return Finding("ok", "the initial loss is at chance level", evidence)


def divergence(curve: Curve) -> Finding | None:
    """A run ended because its losses or weights were not finite."""
    if curve.diverged is None:
        if curve.loss.size < MIN_POINTS:
            return None
        return Finding(
            "ok",
            "losses and weights stay finite",
            f"{curve.loss.size} losses, {len(curve.skipped)} bad steps skipped",
        )
    rate = curve.config.train.lr
    evidence = (
        f"losses or weights were not finite at step {curve.diverged:,}, lr up to {rate:.3g};"
        f" {len(curve.skipped)} bad steps"
    )
    return Finding(
        "problem",
        "training diverged",
        evidence,
        f"Try --train.lr {min(rate / 3, 1e-3):.1g}, in a new --out.",
    )


def learning_rate(curve: Curve) -> Finding | None:
    """Too high a learning rate: the loss jumps or ends above its minimum, or steps are skipped."""
    if curve.loss.size < MIN_POINTS:
        return None
    loss = curve.loss
    steps = curve.steps
    smooth = curve.smooth
    rate = float(np.nanmax(curve.rate))
    best = int(smooth.argmin())
    end = float(smooth[-1])
    highest = int(loss.argmax())
    first = curve.first_loss
    advice = (
        f"Try --train.lr {rate / 3:.1g}, or --train.warmup-steps {max(20, curve.last_step // 20)}."
    )
    if curve.rollbacks or len(curve.skipped) >= 3:
        rolled_back = f", with {curve.rollbacks} rollbacks" if curve.rollbacks else ""
        first_bad = f", the first at step {curve.skipped[0]:,}" if curve.skipped else ""
        evidence = f"{len(curve.skipped)} bad steps were skipped{first_bad}{rolled_back}"
        return Finding("problem", "the learning rate is too high", evidence, advice)
    if first is not None and loss[highest] > 1.5 * first + 1:
        evidence = (
            f"the loss was {first:.2f} at first and {loss[highest]:.2f} at step"
            f" {steps[highest]:,.0f}, lr up to {rate:.3g}"
        )
        return Finding(
            "problem", "the learning rate is too high: the loss spikes", evidence, advice
        )
    if end > 1.15 * smooth[best] + 0.1:
        evidence = (
            f"the loss was {smooth[best]:.2f} at step {steps[best]:,.0f} and is {end:.2f} at the"
            f" end, lr up to {rate:.3g}"
        )
        return Finding("problem", "the learning rate is too high: the loss rises", evidence, advice)
    if (finding := _jump_finding(curve, advice)) is not None:
        return finding
    return Finding("ok", "the loss falls without jumps", f"{loss.size} losses, lr up to {rate:.3g}")


def _jump_finding(curve: Curve, advice: str) -> Finding | None:
    """Jumps of the loss or, rarer, of the validation loss; None without any."""
    loss = curve.loss
    jumps = _jumps(loss)
    val_jumps = _val_jumps(curve.val_loss)
    where = ", ".join(f"{step:,.0f}" for step in curve.steps[jumps][:5])
    again = f"If it happens again: {advice[0].lower()}{advice[1:]}"
    if jumps.size >= max(3, 0.02 * loss.size):
        highest = f"{loss[jumps].max():.2f}"
        evidence = f"{jumps.size} of {loss.size} losses jump (steps {where}), up to {highest}"
        return Finding("problem", "the learning rate is too high: the loss jumps", evidence, advice)
    if jumps.size:
        evidence = f"the loss jumps at step {where}, to {loss[jumps].max():.2f}"
        return Finding("warning", "the loss jumps occasionally", evidence, again)
    if val_jumps.size:
        at = val_jumps[0]
        before, jump = curve.val_loss[at - 1 : at + 1]
        evidence = (
            f"validation loss {before:.2f} at one evaluation and {jump:.2f} at the next,"
            f" step {curve.eval_steps[at]:,.0f}"
        )
        return Finding("warning", "the validation loss jumps occasionally", evidence, again)
    return None


def _jumps(loss: np.ndarray) -> np.ndarray:
    """Rows whose loss is above the rows before by six times the noise, and a tenth of it."""
    width = max(5, min(31, loss.size // 5))
    before = np.array([np.median(loss[max(0, i - width) : i]) for i in range(3, loss.size)])
    noise = 1.4826 * np.median(np.abs(np.diff(loss))) / math.sqrt(2)
    return 3 + np.flatnonzero(loss[3:] - before > np.maximum(6 * noise, 0.1 * before))


def _val_jumps(val_loss: np.ndarray) -> np.ndarray:
    """Evaluations far above the one before and a later one; overfitting does not come back down."""
    is_jump = [
        val_loss[i] > 1.15 * max(val_loss[i - 1], val_loss[i:].min())
        for i in range(1, val_loss.size - 1)
    ]
    return 1 + np.flatnonzero(is_jump)


def warmup(curve: Curve) -> Finding | None:
    """Without warmup the first steps can raise the loss above its initial value."""
    first = curve.first_loss
    early = curve.between(curve.loss, 0.0, 0.2)
    if first is None or not early.size:
        return None
    steps = curve.config.train.warmup_steps
    highest = float(early.max())
    evidence = (
        f"{first:.2f} nats at first, {highest:.2f} at most in the first fifth, {steps} warmup steps"
    )
    if highest <= first + max(0.3, 0.05 * first):
        return Finding("ok", "the start is stable", evidence)
    advice = (
        f"Try --train.warmup-steps {max(20, 2 * steps, curve.last_step // 20)};"
        " if that does not help, a lower --train.lr."
    )
    return Finding(
        "problem", "the start is unstable" if steps else "warmup is missing", evidence, advice
    )


def progress(curve: Curve) -> Finding | None:
    """A run that does not learn ends at its initial loss."""
    if curve.loss.size < MIN_POINTS or (first := curve.first_loss) is None:
        return None
    end = float(curve.smooth[-1])
    rate = float(np.nanmax(curve.rate))
    evidence = (
        f"{first:.2f} nats at first,"
        f" {end:.2f} after {curve.last_step:,} steps with lr up to {rate:.3g}"
    )
    if end > 0.97 * first:
        if np.nanmedian(curve.norm) < 1e-6:
            advice = "Check whether the weights are frozen or all targets are ignored."
            return Finding(
                "problem", "the loss does not decrease: the gradient is 0", evidence, advice
            )
        change = f"--train.lr {10 * rate:.1g}" if rate < 1e-3 else f"--train.lr {rate / 10:.1g}"
        return Finding("problem", "the loss does not decrease", evidence, f"Try {change}.")
    return Finding("ok", "the loss decreases", evidence)


def overfitting(curve: Curve) -> Finding | None:
    """Overfitting: the training loss falls, the validation loss does not."""
    if curve.eval_steps.size < 4:
        return None
    train, val = curve.train_loss, curve.val_loss
    for i in range(1, curve.eval_steps.size - 2):
        if val[i:].min() < 0.99 * val[i] or train[i] - train[-1] < 0.1 * train[i]:
            continue
        step = curve.eval_steps[i]
        evidence = (
            f"validation loss {val[i]:.2f} at step {step:,.0f}, {val[-1]:.2f} at the end;"
            f" training loss {train[i]:.2f} and {train[-1]:.2f}"
        )
        advice = (
            "The `best` checkpoint is from before."
            " Try more text, fewer steps, a smaller model or a higher --model.drop-rate."
        )
        if val[-1] > 1.01 * val[i]:
            effect = "the validation loss rises"
        else:
            effect = "only the training loss falls"
        return Finding(
            "problem", f"overfitting from step {step:,.0f} on: {effect}", evidence, advice
        )
    evidence = (
        f"validation loss {val[-1]:.2f}, training loss {train[-1]:.2f} at the end,"
        f" {val[-1] - train[-1]:+.2f}"
    )
    return Finding("ok", "no overfitting", evidence)


def undertrained(curve: Curve) -> Finding | None:
    """A loss that still falls steeply at the end would fall further."""
    if curve.eval_steps.size >= 5:
        steps, loss = curve.eval_steps, curve.val_loss
    else:
        steps, loss = curve.steps, curve.smooth
    if loss.size < MIN_POINTS - 1 or not curve.is_finished:
        return None
    before = float(np.interp(0.75 * steps[-1], steps, loss))
    end = float(loss[-1])
    evidence = f"{before:.2f} to {end:.2f} in the last quarter, {end / before - 1:+.0%}"
    # a falling rate lowers the loss by itself
    decayed = curve.rate.size and curve.rate[-1] < 0.2 * np.nanmax(curve.rate)
    if end < (0.9 if decayed else 0.95) * before:
        return Finding(
            "warning",
            "undertrained: the loss still falls steeply",
            evidence,
            f"Try --train.steps {2 * curve.last_step}.",
        )
    return Finding("ok", "the loss has leveled off", evidence)


def data(curve: Curve) -> Finding | None:
    """A large model memorizes a small text after some epochs."""
    epochs = curve.epochs
    n_params = curve.config.model.n_params
    if not epochs or not curve.tokens:
        return None
    text = curve.tokens / epochs
    evidence = (
        f"{text:,.0f} tokens of text, {epochs:.1f} epochs, {n_params:,} parameters:"
        f" {text / n_params:.2g} tokens per parameter"
    )
    if epochs > 3 and text < 0.1 * n_params:
        advice = (
            "Try more text, a smaller model (--model.n-layers, --model.emb-dim),"
            " or pretrained weights (--from)."
        )
        return Finding("warning", "the text is small for this model", evidence, advice)
    return Finding("ok", "the text is large enough for this model", evidence)


def gradient(curve: Curve) -> Finding | None:
    """A gradient norm that grows while the loss does not rise is an early sign of instability."""
    early = curve.between(curve.norm, 0.2, 0.5)
    late = curve.between(curve.norm, 0.75, 1.0)
    if early.size < 3 or late.size < 3:
        return None
    before = float(np.nanmedian(early))
    after = float(np.nanmedian(late))
    evidence = f"norm {before:.2g} before the middle, {after:.2g} in the last quarter"
    if after > 4 * before:
        return Finding(
            "warning",
            "the gradient norm grows",
            evidence,
            "Try a lower --train.lr, or --train.grad-clip 1.0 if it is not set.",
        )
    return Finding("ok", "the gradient norm is steady", evidence)


MAX_ABOVE_FLOOR, PROBLEM_ABOVE_FLOOR = 0.15, 0.5
"""Share of the floor by which the loss of a finished run exceeds it: a warning, a problem.

The quickstart ends at 0.08.
"""
MAX_BELOW_FLOOR = 0.03
"""How far the loss of a validation text may be below the floor, which is an average."""
SKILL_SIGMAS = 2.0
"""Standard errors by which an accuracy must differ from chance to count as different."""


def distance_to_floor(curve: Curve) -> Finding | None:
    """A finished run on a text of known entropy should end near it."""
    if curve.floor is None or curve.bits_per_byte is None or not curve.is_finished:
        return None
    bits = curve.bits_per_byte
    floor = curve.floor.bits_per_byte
    above = bits / floor - 1
    evidence = f"{bits:.3f} bits per byte; the entropy of the text is {floor:.3f}, so {above:+.0%}"
    if above < -MAX_BELOW_FLOOR:
        advice = "Check that the validation text is not part of the training text."
        return Finding("warning", "the loss is below its floor", evidence, advice)
    if above <= MAX_ABOVE_FLOOR:
        return Finding("ok", "the loss is near its floor", evidence)
    advice = f"Try --train.steps {2 * curve.last_step}, or a larger model."
    if above > PROBLEM_ABOVE_FLOOR:
        return Finding("problem", "the loss is far above its floor", evidence, advice)
    return Finding("warning", "the loss is still above its floor", evidence, advice)


def skill_levels(curve: Curve) -> Finding | None:
    """Each skill should be better than chance, by more than the sampling error."""
    if curve.skills is None or not curve.skills.scores:
        return None
    below: list[str] = []
    undecided: list[str] = []
    for score in curve.skills.scores:
        spread = SKILL_SIGMAS * math.sqrt(score.chance * (1 - score.chance) / max(score.n, 1))
        text = f"{score.skill} {score.accuracy:.0%} (chance {score.chance:.0%})"
        if score.accuracy < score.chance - spread:
            below.append(text)
        elif score.accuracy <= score.chance + spread:
            undecided.append(text)
    is_older = curve.skills.step is not None and curve.skills.step < curve.last_step
    when = f"; measured at step {curve.skills.step:,}" if is_older else ""
    if not below and not undecided:
        weakest = min(curve.skills.scores, key=lambda score: score.accuracy - score.chance)
        evidence = (
            f"the weakest: {weakest.skill} {weakest.accuracy:.0%} (chance"
            f" {weakest.chance:.0%}){when}"
        )
        return Finding("ok", "every skill is above chance", evidence)
    advice = (
        f"Try --train.steps {2 * curve.last_step}, or a larger model:"
        " skills appear later than fluent sentences."
    )
    parts = [f"below chance: {', '.join(below)}"] * bool(below) + [
        f"no better: {', '.join(undecided)}"
    ] * bool(undecided)
    evidence = "; ".join(parts) + when
    if below:
        return Finding("problem", "skills below chance", evidence, advice)
    return Finding("warning", "skills no better than chance", evidence, advice)


CHECKS: dict[str, Callable[[Curve], Finding | None]] = {
    "divergence": divergence,
    "initial loss": first_loss,
    "warmup": warmup,
    "learning rate": learning_rate,
    "progress": progress,
    "gradient": gradient,
    "overfitting": overfitting,
    "length": undertrained,
    "text": data,
    "floor": distance_to_floor,
    "skills": skill_levels,
}


def diagnose(
    rows: Sequence[Mapping[str, Any]], config: RunConfig, skills: SkillResults | None = None
) -> dict[str, Finding]:
    """Run all checks on a run's metrics; inconclusive ones are left out.

    Args:
        rows: of metrics.jsonl.
        config: the run's settings.
        skills: of a model trained on stories, from `skill_results.read_skills`.
    """
    curve = Curve.of(rows, config, skills)
    findings = {name: check(curve) for name, check in CHECKS.items()}
    return {name: finding for name, finding in findings.items() if finding is not None}
