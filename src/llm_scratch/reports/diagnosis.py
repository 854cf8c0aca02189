"""Reads a run's curve and says in plain words whether it is healthy, with the evidence and what to try next.

Each check is a function of a `Curve` to a `Finding`, or None where the curve does not say enough. Yours: write one, put it into `CHECKS`.
Proof: tests/reports/test_diagnosis.py (each illness on made-up curves and on real runs trained badly; none on healthy ones).
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

State = Literal["well", "watch", "ill"]
MIN_POINTS = 6  # rows that a shape can be seen in


@dataclass(frozen=True)
class Finding:
    """What one check found: "well", something to "watch", or "ill"; the evidence in numbers; what to try, if anything."""

    state: State
    what: str
    evidence: str
    advice: str = ""


def first_loss(curve: Curve) -> Finding | None:
    """A model that knows nothing spreads its bets evenly over V tokens, which costs ln V nats."""
    if (found := curve.first_loss) is None:
        return None
    model = curve.config.model
    want = math.log(model.vocab_size)
    evidence = f"{found:.2f} nats before learning; knowing nothing costs ln {model.vocab_size:,} = {want:.2f}"
    if found > want + 1:
        tied = model.tie_embeddings and model.init == "torch"
        reason = (
            "the tied head has the embeddings' large first weights: --model.init gpt2" if tied else "use smaller ones: --model.init gpt2"
        )
        return Finding("ill", "the first weights are too large", evidence, reason)
    if found < want - 1:
        advice = "If its weights were trained before, all is well; else see whether targets can be seen in the inputs."
        return Finding("watch", "it knew something before it learned", evidence, advice)
    return Finding("well", "the first loss is that of an even guess", evidence)


def divergence(curve: Curve) -> Finding | None:
    """A run that ended because its losses or weights were not finite."""
    if curve.diverged is None:
        if curve.loss.size < MIN_POINTS:
            return None
        return Finding("well", "losses and weights stay finite", f"{curve.loss.size} losses, {len(curve.skipped)} bad steps skipped")
    rate = curve.config.train.lr
    evidence = f"losses or weights were not finite at step {curve.diverged:,}, lr up to {rate:.3g}; {len(curve.skipped)} bad steps"
    return Finding("ill", "training diverged", evidence, f"Try --train.lr {min(rate / 3, 1e-3):.1g}, in a new --out.")


def learning_rate(curve: Curve) -> Finding | None:
    """Too high a rate throws the loss up: it jumps, ends above where it has been, or needs steps to be skipped."""
    if curve.loss.size < MIN_POINTS:
        return None
    loss, steps, usual, rate = curve.loss, curve.steps, curve.smooth, float(np.nanmax(curve.rate))
    best, end, highest, first = int(usual.argmin()), float(usual[-1]), int(loss.argmax()), curve.first_loss
    advice = f"Try --train.lr {rate / 3:.1g}, or --train.warmup-steps {max(20, curve.last_step // 20)}."
    jumps, looks = _jumps(loss), _val_jumps(curve.val_loss)
    where = ", ".join(f"{step:,.0f}" for step in steps[jumps][:5])
    if curve.rollbacks or len(curve.skipped) >= 3:
        back = f", and the run went back {curve.rollbacks} times" if curve.rollbacks else ""
        first_bad = f", the first at step {curve.skipped[0]:,}" if curve.skipped else ""
        return Finding("ill", "the learning rate is too high", f"{len(curve.skipped)} bad steps were skipped{first_bad}{back}", advice)
    if first is not None and loss[highest] > 1.5 * first + 1:
        evidence = f"the loss was {first:.2f} at first and {loss[highest]:.2f} at step {steps[highest]:,.0f}, lr up to {rate:.3g}"
        return Finding("ill", "the learning rate is too high: the loss is thrown up", evidence, advice)
    if end > 1.15 * usual[best] + 0.1:
        evidence = f"the loss was {usual[best]:.2f} at step {steps[best]:,.0f} and is {end:.2f} at the end, lr up to {rate:.3g}"
        return Finding("ill", "the learning rate is too high: the loss climbs", evidence, advice)
    if jumps.size >= max(3, 0.02 * loss.size):
        evidence = f"{jumps.size} of {loss.size} losses jump (steps {where}), up to {loss[jumps].max():.2f}"
        return Finding("ill", "the learning rate is too high: the loss jumps", evidence, advice)
    if jumps.size:
        evidence = f"the loss jumps at step {where}, to {loss[jumps].max():.2f}"
        return Finding("watch", "the loss jumps now and then", evidence, f"If it happens again: {advice[0].lower()}{advice[1:]}")
    if looks.size:
        before, jump = curve.val_loss[looks[0] - 1 : looks[0] + 1]
        evidence = f"the held-out loss was {before:.2f} at one look and {jump:.2f} at the next, step {curve.eval_steps[looks[0]]:,.0f}"
        return Finding("watch", "the held-out loss jumps now and then", evidence, f"If it happens again: {advice[0].lower()}{advice[1:]}")
    return Finding("well", "the loss falls without jumps", f"{loss.size} losses, lr up to {rate:.3g}")


def _jumps(loss: np.ndarray) -> np.ndarray:
    """Rows whose loss lies far above the rows before: six times the usual flicker from row to row, and a tenth of the loss."""
    width = max(5, min(31, loss.size // 5))
    before = np.array([np.median(loss[max(0, i - width) : i]) for i in range(3, loss.size)])
    flicker = 1.4826 * np.median(np.abs(np.diff(loss))) / math.sqrt(2)
    return 3 + np.flatnonzero(loss[3:] - before > np.maximum(6 * flicker, 0.1 * before))


def _val_jumps(held_out: np.ndarray) -> np.ndarray:
    """Looks that are far worse than the one before and than one after: that is no over-fitting, which does not come back."""
    return np.array([i for i in range(1, held_out.size - 1) if held_out[i] > 1.15 * max(held_out[i - 1], held_out[i:].min())], dtype=int)


def warm_up(curve: Curve) -> Finding | None:
    """The first steps at the full rate can throw a model further off than where it began."""
    first, early = curve.first_loss, curve.between(curve.loss, 0.0, 0.2)
    if first is None or not early.size:
        return None
    warm, highest = curve.config.train.warmup_steps, float(early.max())
    evidence = f"{first:.2f} nats at first, {highest:.2f} at most in the first fifth, {warm} warm-up steps"
    if highest <= first + max(0.3, 0.05 * first):
        return Finding("well", "the start is calm", evidence)
    advice = f"Try --train.warmup-steps {max(20, 2 * warm, curve.last_step // 20)}; if that does not help, a lower --train.lr."
    return Finding("ill", "the start is too rough" if warm else "a warm-up is missing", evidence, advice)


def progress(curve: Curve) -> Finding | None:
    """A run that learns nothing ends where it began."""
    if curve.loss.size < MIN_POINTS or (first := curve.first_loss) is None:
        return None
    end, rate = float(curve.smooth[-1]), float(np.nanmax(curve.rate))
    evidence = f"{first:.2f} nats at first, {end:.2f} after {curve.last_step:,} steps with lr up to {rate:.3g}"
    if end > 0.97 * first:
        if np.nanmedian(curve.norm) < 1e-6:
            return Finding(
                "ill", "the run is dead: there is no gradient", evidence, "See whether the weights are frozen or the targets all ignored."
            )
        change = f"--train.lr {10 * rate:.1g}" if rate < 1e-3 else f"--train.lr {rate / 10:.1g}"
        return Finding("ill", "the run is dead: the loss is flat", evidence, f"Try {change}.")
    return Finding("well", "it learns", evidence)


def over_fitting(curve: Curve) -> Finding | None:
    """Learning by heart: what is learned from gets easier, what is held out does not."""
    if curve.eval_steps.size < 4:
        return None
    learned, held_out = curve.train_loss, curve.val_loss
    for i in range(1, curve.eval_steps.size - 2):
        if held_out[i:].min() < 0.99 * held_out[i] or learned[i] - learned[-1] < 0.1 * learned[i]:
            continue
        rises = held_out[-1] > 1.01 * held_out[i]
        evidence = (
            f"held-out loss {held_out[i]:.2f} at step {curve.eval_steps[i]:,.0f}, {held_out[-1]:.2f} at the end; "
            f"on learned text {learned[i]:.2f} and {learned[-1]:.2f}"
        )
        advice = "The `best` checkpoint is from before. Try more text, fewer steps, a smaller model or a higher --model.drop-rate."
        what = f"over-fitting from step {curve.eval_steps[i]:,.0f} on: " + (
            "held-out text gets worse" if rises else "only learned text gets better"
        )
        return Finding("ill", what, evidence, advice)
    gap = held_out[-1] - learned[-1]
    return Finding("well", "no over-fitting", f"held-out text {held_out[-1]:.2f}, learned text {learned[-1]:.2f} at the end, {gap:+.2f}")


def under_trained(curve: Curve) -> Finding | None:
    """A loss that still falls steeply at the end has more to give."""
    steps, loss = (curve.eval_steps, curve.val_loss) if curve.eval_steps.size >= 5 else (curve.steps, curve.smooth)
    if loss.size < MIN_POINTS - 1 or not curve.is_finished:  # a run that still trains has not had its last steps
        return None
    before, end = float(np.interp(0.75 * steps[-1], steps, loss)), float(loss[-1])
    evidence = f"the last quarter took it from {before:.2f} to {end:.2f}, {end / before - 1:+.0%}"
    decayed = curve.rate.size and curve.rate[-1] < 0.2 * np.nanmax(curve.rate)  # a falling rate makes the end fall by itself
    if end < (0.9 if decayed else 0.95) * before:
        return Finding("watch", "under-trained: the loss still falls steeply", evidence, f"Try --train.steps {2 * curve.last_step}.")
    return Finding("well", "the loss has levelled off", evidence)


def data(curve: Curve) -> Finding | None:
    """A large model on a small text can know it by heart after some passes."""
    passes, parameters = curve.epochs, curve.config.model.n_params
    if not passes or not curve.tokens:
        return None
    text = curve.tokens / passes
    evidence = f"{text:,.0f} tokens of text, read {passes:.1f} times, for {parameters:,} parameters: {text / parameters:.2g} a parameter"
    if passes > 3 and text < 0.1 * parameters:
        advice = "Try more text, or a smaller model: --model.n-layers and --model.emb-dim; or begin with trained weights."
        return Finding("watch", "the text is small for this model", evidence, advice)
    return Finding("well", "text and model fit each other", evidence)


def gradient(curve: Curve) -> Finding | None:
    """Gradients that grow while the loss does not rise are the first sign of trouble."""
    early, late = curve.between(curve.norm, 0.2, 0.5), curve.between(curve.norm, 0.75, 1.0)
    if early.size < 3 or late.size < 3:
        return None
    a, b = float(np.nanmedian(early)), float(np.nanmedian(late))
    evidence = f"length {a:.2g} before the middle, {b:.2g} in the last quarter"
    if b > 4 * a:
        return Finding("watch", "the gradient grows", evidence, "Try a lower --train.lr, or --train.max-norm 1.0 if it is not set.")
    return Finding("well", "the gradient is steady", evidence)


MAX_ABOVE_FLOOR, PROBLEM_ABOVE_FLOOR = 0.15, 0.5
"""Loss above its floor, as a share of the floor, from which a finished run is a warning, and a problem. The quickstart ends at 0.08."""
MAX_BELOW_FLOOR = 0.03
"""How far the loss of one validation text may lie below the average that the floor is."""
SKILL_SIGMAS = 2.0
"""Standard errors by which an accuracy must differ from chance to count as different."""


def distance_to_floor(curve: Curve) -> Finding | None:
    """A finished run on a text of known entropy should end near it."""
    if curve.floor is None or curve.bits_per_byte is None or not curve.is_finished:
        return None
    bits, floor = curve.bits_per_byte, curve.floor.bits_per_byte
    above = bits / floor - 1
    evidence = f"{bits:.3f} bits per byte; the entropy of the text is {floor:.3f}, so {above:+.0%}"
    if above < -MAX_BELOW_FLOOR:
        advice = "Check that the validation text is not part of the training text."
        return Finding("watch", "the loss is below its floor", evidence, advice)
    if above <= MAX_ABOVE_FLOOR:
        return Finding("well", "the loss is near its floor", evidence)
    advice = f"Try --train.steps {2 * curve.last_step}, or a larger model."
    if above > PROBLEM_ABOVE_FLOOR:
        return Finding("ill", "the loss is far above its floor", evidence, advice)
    return Finding("watch", "the loss is still above its floor", evidence, advice)


def skill_levels(curve: Curve) -> Finding | None:
    """Each skill should be better than guessing, by more than chance explains."""
    if curve.skills is None or not curve.skills.scores:
        return None
    below, undecided = [], []
    for score in curve.skills.scores:
        spread = SKILL_SIGMAS * math.sqrt(score.chance * (1 - score.chance) / max(score.n, 1))
        text = f"{score.skill} {score.accuracy:.0%} (chance {score.chance:.0%})"
        if score.accuracy < score.chance - spread:
            below.append(text)
        elif score.accuracy <= score.chance + spread:
            undecided.append(text)
    older = curve.skills.step is not None and curve.skills.step < curve.last_step
    when = f"; measured at step {curve.skills.step:,}" if older else ""
    if not below and not undecided:
        weakest = min(curve.skills.scores, key=lambda score: score.accuracy - score.chance)
        evidence = f"the weakest: {weakest.skill} {weakest.accuracy:.0%} (chance {weakest.chance:.0%}){when}"
        return Finding("well", "every skill is above chance", evidence)
    advice = f"Try --train.steps {2 * curve.last_step}, or a larger model: skills appear later than fluent sentences."
    said = [f"below chance: {', '.join(below)}"] * bool(below) + [f"no better: {', '.join(undecided)}"] * bool(undecided)
    evidence = "; ".join(said) + when
    if below:
        return Finding("ill", "skills below chance", evidence, advice)
    return Finding("watch", "skills no better than chance", evidence, advice)


CHECKS: dict[str, Callable[[Curve], Finding | None]] = {
    "divergence": divergence,
    "first loss": first_loss, "warm-up": warm_up, "learning rate": learning_rate, "progress": progress, "gradient": gradient,
    "over-fitting": over_fitting, "length": under_trained, "text": data,
    "floor": distance_to_floor, "skills": skill_levels,
}  # fmt: skip


def diagnose(rows: Sequence[Mapping[str, Any]], config: RunConfig, skills: SkillResults | None = None) -> dict[str, Finding]:
    """What each check found in a run's metrics; a check that cannot say anything yet is left out.

    Args:
        rows: of metrics.jsonl.
        config: the run's settings.
        skills: of a model of the stories, as `skill_results.read_skills` gives them.
    """
    curve = Curve.of(rows, config, skills)
    found = {name: check(curve) for name, check in CHECKS.items()}
    return {name: finding for name, finding in found.items() if finding is not None}
