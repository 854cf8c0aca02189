"""Resolve the arms of an experiment: their settings, checked first, with steps for the budget.

Tests: tests/experiments/test_arms.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.config import DataConfig, RunConfig, resume_relevant, to_dict
from llm_scratch.data.corpus import Corpus, count_bytes, read_corpus
from llm_scratch.data.fit import check_fit, possible_order
from llm_scratch.errors import UserError
from llm_scratch.experiments.experiment import Arm, Budget, Experiment
from llm_scratch.experiments.step_seconds import step_seconds
from llm_scratch.model.flops import flops_per_token
from llm_scratch.presets import preset
from llm_scratch.run_directory import find_run
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import SCHEDULES
from llm_scratch.training.validate import validate

REGISTRIES: dict[str, dict[str, Any]] = {
    "model.architecture": ARCHITECTURES,
    "train.optimizer": OPTIMIZERS,
    "train.schedule": SCHEDULES,
}
"""Setting -> the table in which an arm's file registers what the setting names."""
STEP_SETTINGS = ("train.steps", "train.epochs")
SEED_SHIFT = 1_000_000
"""Added to the seeds of an arm with the settings of an earlier one; their difference is noise."""


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with all settings of its runs.

    Attributes:
        name: of the arm.
        config: of its runs, but for the seed.
        seed_shift: added to each seed; 0 except for an arm with the settings of an earlier one.
    """

    name: str
    config: RunConfig
    seed_shift: int = 0

    def run_config(self, seed: int) -> RunConfig:
        """The settings of the run with this seed."""
        return replace(self.config, train=replace(self.config.train, seed=seed + self.seed_shift))


def resolve_arms(experiment: Experiment, device: str = "cpu") -> list[ResolvedArm]:
    """The arms with all their settings; nothing is trained and no text is read.

    Args:
        experiment: its first arm is the reference.
        device: on which a budget in seconds is measured.
    Raises:
        UserError: an unknown base, an invalid setting, an error in a Python file, a budget that a
            setting contradicts.
    """
    base = base_config(experiment.base)
    resolved: list[ResolvedArm] = []
    for arm in experiment.arms:
        config = _without_samples(arm_config(base, arm))
        _check_not_ignored(arm, experiment.budget, is_reference=not resolved)
        validate(config)
        resolved.append(ResolvedArm(arm.name, config))
    budget, configs = experiment.budget, [arm.config for arm in resolved]
    costs = None
    if budget.unit == "seconds":
        costs = dict(zip(configs, step_seconds(configs, device), strict=True))
    budgeted = [
        replace(arm, config=with_budget(arm.config, budget, configs[0], costs)) for arm in resolved
    ]
    return [
        replace(arm, seed_shift=SEED_SHIFT * _n_same(budgeted[:i], arm))
        for i, arm in enumerate(budgeted)
    ]


def base_config(name: str) -> RunConfig:
    """The settings of a preset or of the run in a directory.

    Raises:
        UserError: neither; or a run that does not start from random weights.
    """
    run = find_run(Path(name)) if Path(name).is_dir() else None
    config = run.config if run is not None else preset(name)
    if config.init_from:
        raise UserError(
            f"base {name}: starts from the weights of {config.init_from};"
            " give a base that starts from random weights"
        )
    return config


def arm_config(base: RunConfig, arm: Arm) -> RunConfig:
    """The settings of an arm, with what its Python file registers unless they say otherwise."""
    chosen = _registered_by(arm) if arm.file else {}
    try:
        return base.override(
            [*(f"{setting}={name}" for setting, name in chosen.items()), *arm.settings]
        )
    except UserError as e:
        raise UserError(f"arm {arm.name}: {e}", e.code) from None


def _registered_by(arm: Arm) -> dict[str, str]:
    """Run an arm's Python file: setting -> the name that the file registered for it.

    Raises:
        UserError: an error in the file, or nothing registered.
    """
    before = {setting: dict(table) for setting, table in REGISTRIES.items()}
    run_user_file(Path(arm.file), f"arm {arm.name}: {arm.file}")
    registered = {
        setting: [name for name, value in table.items() if before[setting].get(name) is not value]
        for setting, table in REGISTRIES.items()
    }
    if not any(registered.values()):
        line = "ARCHITECTURES['mine'] = Architecture(MyConfig, MyModel)"
        raise UserError(
            f"arm {arm.name}: {arm.file} registers no model, optimizer or schedule;"
            f" add a line such as {line}"
        )
    for setting, names in registered.items():
        if len(names) > 1 and not any(text.startswith(f"{setting}=") for text in arm.settings):
            raise UserError(
                f"arm {arm.name}: {arm.file} registers {', '.join(names)};"
                f" choose one with the setting {setting}=NAME"
            )
    return {setting: names[0] for setting, names in registered.items() if len(names) == 1}


def _check_not_ignored(arm: Arm, budget: Budget, is_reference: bool) -> None:
    """Reject settings that the experiment would overwrite: the seed, and the steps of a budget.

    The steps of the reference are the budget where it has no amount.
    """
    reject_ignored(arm, {"train.seed": "the experiment sets the seeds"})
    if budget.unit != "none" and not (is_reference and budget.amount is None):
        reject_ignored(
            arm,
            dict.fromkeys(STEP_SETTINGS, "the budget sets the steps"),
            ", or set `budget: none`",
        )


def reject_ignored(arm: Arm, ignored: Mapping[str, str], alternative: str = "") -> None:
    """Reject settings of an arm that something else overwrites.

    Args:
        arm: with its settings.
        ignored: name of a setting -> what sets it.
        alternative: to leaving the setting out.
    """
    for setting in arm.settings:
        name = setting.partition("=")[0].strip()
        if name in ignored:
            raise UserError(
                f"arm {arm.name}: {setting} would be ignored, {ignored[name]};"
                f" leave it out{alternative}"
            )


def _without_samples(config: RunConfig) -> RunConfig:
    """The settings without text samples, which take time and which no metric reads."""
    return replace(config, train=replace(config.train, sample_every=0))


def _n_same(earlier: list[ResolvedArm], arm: ResolvedArm) -> int:
    """The number of earlier arms whose settings train the same model."""
    wanted = resume_relevant(to_dict(arm.config))
    return sum(resume_relevant(to_dict(other.config)) == wanted for other in earlier)


def with_budget(
    config: RunConfig,
    budget: Budget,
    reference: RunConfig,
    costs: Mapping[RunConfig, float] | None = None,
) -> RunConfig:
    """The settings with the steps that spend the budget, to the nearest step.

    Args:
        config: the settings of an arm.
        budget: without an amount, what `reference` spends with its own steps.
        reference: the settings of the reference arm.
        costs: of a step with either settings; needed for a budget in seconds.
    """
    if budget.unit == "none":
        return config
    if budget.amount is None and reference.train.epochs is not None:
        if budget.unit != "tokens":
            raise UserError(
                f"budget: {budget.unit} of a base that trains for epochs are unknown;"
                " give an amount"
            )
        return replace(config, train=replace(config.train, epochs=reference.train.epochs))
    costs = costs or {each: cost_of_step(each, budget.unit) for each in (config, reference)}
    amount = budget.amount or reference.train.steps * costs[reference]
    steps = max(1, round(amount / costs[config]))
    warmup = min(config.train.warmup_steps, max(0, steps - 1))
    return replace(
        config, train=replace(config.train, steps=steps, epochs=None, warmup_steps=warmup)
    )


def cost_of_step(config: RunConfig, unit: str) -> float:
    """Tokens of an optimizer step on full rows, or its FLOPs if `unit` is "flops"."""
    tokens = config.train.batch_size * config.model.context_length
    return float(tokens * flops_per_token(config.model) if unit == "flops" else tokens)


class Corpora:
    """The texts of an experiment's runs, each read and tokenized once.

    Args:
        halve_validation: whether a search takes the first half of the validation text, and the
            comparison the second.
    """

    def __init__(self, halve_validation: bool = False) -> None:
        self.halve_validation = halve_validation
        self._known: dict[tuple[DataConfig, int], Corpus] = {}

    def of(self, config: RunConfig, for_search: bool = False) -> Corpus:
        """The text of a run, checked to be long enough for its rows."""
        corpus = self._read(config)
        if self.halve_validation:
            corpus = validation_half(corpus, first=for_search)
        check_fit(config, corpus.train, corpus.val, end_of_text(corpus.tokenizer))
        return corpus

    def fit(self, config: RunConfig) -> RunConfig:
        """The settings with an order of rows that the text allows (see `data.fit`)."""
        corpus = self._read(config)
        fitted, _ = possible_order(config, corpus.train, corpus.val, end_of_text(corpus.tokenizer))
        self._known[fitted.data, fitted.model.vocab_size] = corpus
        self.of(fitted)
        return fitted

    def _read(self, config: RunConfig) -> Corpus:
        key = (config.data, config.model.vocab_size)
        if key not in self._known:
            self._known[key] = read_corpus(config)
        return self._known[key]


def validation_half(corpus: Corpus, first: bool) -> Corpus:
    """A corpus that validates on one half of this one's validation text.

    The text is cut between documents where possible.
    """
    cut = len(corpus.val) // 2
    eot = end_of_text(corpus.tokenizer)
    if eot is not None:
        next_start = next((i for i in range(cut, len(corpus.val) - 1) if corpus.val[i] == eot), cut)
        cut = next_start if next_start < 3 * len(corpus.val) // 4 else cut
    # both halves have the separator between them
    val = corpus.val[: cut + 1] if first else corpus.val[cut:]
    return replace(corpus, val=val, val_bytes=count_bytes(val, corpus.tokenizer))


def differing_settings(arms: list[ResolvedArm]) -> dict[str, list[Any]]:
    """Setting -> its value in each arm, for settings that are not the same in all, but the seed.

    A setting that the architecture of an arm does not have is None there.
    """
    flat = [flatten_settings(arm.config) for arm in arms]
    names = dict.fromkeys(name for values in flat for name in values)
    columns = {name: [values.get(name) for values in flat] for name in names}
    return {
        name: column
        for name, column in columns.items()
        if any(value != column[0] for value in column)
    }


def flatten_settings(config: RunConfig) -> dict[str, Any]:
    """All settings by their full names, such as `train.lr`."""
    flat: dict[str, Any] = {}
    for part, values in to_dict(config).items():
        if isinstance(values, Mapping):
            flat |= {f"{part}.{name}": value for name, value in values.items()}
        else:
            flat[part] = values
    return flat
