"""The description of an experiment, to and from a small YAML file.

    name: init
    base: quickstart                  # a preset or a run directory
    arms:                             # the first one is the reference
      gpt2: [model.init=gpt2]
      mimetic: [model.init=mimetic]
      mine: {file: squared_relu.py, settings: [train.lr=0.01]}
    seeds: 5
    budget: {tokens: 2000000}         # or flops, or seconds; default: the tokens of the reference
    metric: bits_per_byte
    smallest_effect: 0.005
    search: {train.lr: [0.01, 0.02]}  # tuned for each arm, on separate validation text

Tests: tests/experiments/test_experiment.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_scratch.errors import USAGE, UserError, unknown
from llm_scratch.storage.safe_parse import parse_yaml_value, read_yaml

BUDGET_UNITS = ("tokens", "flops", "seconds", "none")
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Arm:
    """One of the settings that are compared.

    Attributes:
        name: how the report calls it.
        settings: `train.lr=0.01` each, changes of the base.
        file: a Python file that registers a model, an optimizer or a schedule; the arm uses it.
    """

    name: str
    settings: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Budget:
    """What every arm may spend on a run.

    Attributes:
        unit: "tokens", "flops", "seconds"; "none": each arm has the steps of its own settings.
        amount: None: what the reference spends with its own steps.
    """

    unit: str = "tokens"
    amount: float | None = None


@dataclass(frozen=True)
class Experiment:
    """Arms that are compared over the same seeds; the first one is the reference.

    Attributes:
        name: of the experiment, and of its folder.
        base: a preset or a run directory, whose settings the arms change.
        arms: at least two.
        seeds: at least two.
        budget: of a run.
        metric: a name in `metrics.METRICS`, with its argument: bits_per_byte, skill:count.
        smallest_effect: the smallest difference that matters, in units of the metric; None: the
            metric's own.
        stop_early: end before the last seed once every comparison has a verdict.
        search: setting -> values to try for every arm before the comparison.
        file: a Python file to run first, such as one that registers a metric.
    """

    name: str
    base: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    budget: Budget = Budget()
    metric: str = "bits_per_byte"
    smallest_effect: float | None = None
    stop_early: bool = False
    search: tuple[tuple[str, tuple[str, ...]], ...] = ()
    file: str = ""

    def __post_init__(self) -> None:
        if len(self.arms) < 2:
            raise UserError(
                f"experiment {self.name}: has {len(self.arms)} arm; give at least two to compare"
            )
        names = [arm.name for arm in self.arms]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise UserError(
                f"experiment {self.name}: two arms are named {duplicate!r}; rename one of them"
            )
        if not 2 <= len(self.seeds) <= MAX_SEEDS or len(set(self.seeds)) < len(self.seeds):
            raise UserError(
                f"seeds: {list(self.seeds)[:9]} are invalid;"
                f" give 2 to {MAX_SEEDS:,} different seeds, such as 5"
            )
        if self.smallest_effect is not None and not self.smallest_effect > 0:
            raise UserError(
                f"smallest_effect: {self.smallest_effect} is out of range; give a number above 0"
            )

    @property
    def files(self) -> tuple[str, ...]:
        """The Python files of the experiment and of its arms."""
        return tuple(filter(None, (self.file, *(arm.file for arm in self.arms))))

    @property
    def fingerprint(self) -> str:
        """A hash of 8 hex digits of the experiment and of the content of its Python files."""
        digest = hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode())
        for file in self.files:
            if Path(file).is_file():
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:8]


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a number of seeds (5 gives 1 to 5) or a list of them."""
    whole = [value] if isinstance(value, int) else value
    if not isinstance(whole, list) or not all(
        isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in whole
    ):
        raise UserError(
            f"seeds: {value!r} is not a number of seeds;"
            " give a number such as 5, or a list of whole numbers"
        )
    return tuple(range(1, value + 1)) if isinstance(value, int) else tuple(whole)


def split_settings(text: str) -> tuple[str, ...]:
    """The settings of an arm in one text: "train.lr=0.01 train.betas=[0.9, 0.95]" has two.

    A new setting begins at each word that has a `=`.
    """
    settings: list[str] = []
    for word in text.split():
        if "=" in word or not settings:
            settings.append(word)
        else:
            settings[-1] += f" {word}"
    return tuple(settings)


def compare_settings(base: str, arms: Sequence[str], seeds: int, **more: Any) -> Experiment:
    """The experiment of one command line: every text in `arms` is an arm.

    Args:
        base: a preset or a run directory.
        arms: the settings of each arm, as `split_settings` takes them; "base" changes nothing. A
            single one is compared with "base".
        seeds: how many.
        more: other fields of `Experiment`.
    """
    texts = list(arms) if len(arms) > 1 else ["base", *arms]
    names: list[str] = []
    for text in texts:
        again = sum(name == text or name.startswith(f"{text} (") for name in names)
        names.append(f"{text} ({again + 1})" if again else text)
    made = [
        Arm(name, () if text == "base" else split_settings(text))
        for name, text in zip(names, texts, strict=True)
    ]
    return _named_after_content(Experiment("", base, tuple(made), parse_seeds(seeds), **more))


def remove_each(base: str, recipe: str, seeds: int, **more: Any) -> Experiment:
    """The experiment that undoes one change of a recipe at a time; the recipe is the reference.

    Args:
        base: what the recipe changes: a preset or a run directory.
        recipe: at least two settings, as `split_settings` takes them.
        seeds, more: as in `compare_settings`.
    """
    settings = split_settings(recipe)
    if len(settings) < 2:
        raise UserError(
            f"recipe {recipe!r}: has {len(settings)} setting;"
            " give at least two, of which one at a time is removed"
        )
    rest = [tuple(other for other in settings if other != setting) for setting in settings]
    arms = [
        Arm("recipe", settings),
        *(
            Arm(f"recipe without {setting}", kept)
            for setting, kept in zip(settings, rest, strict=True)
        ),
    ]
    return _named_after_content(Experiment("", base, tuple(arms), parse_seeds(seeds), **more))


def _named_after_content(experiment: Experiment) -> Experiment:
    """A name that the same command finds again."""
    return replace(experiment, name=f"{Path(experiment.base).name}-{experiment.fingerprint}")


def read_experiment(path: str | Path) -> Experiment:
    """Read an experiment from a YAML file; the paths in it are relative to the file.

    Raises:
        UserError: a missing file, invalid YAML, an unknown key, or a value of the wrong kind.
    """
    return from_dict({"name": Path(path).stem} | read_yaml(path, USAGE), Path(path).parent)


def from_dict(values: Mapping[str, Any], folder: Path = Path()) -> Experiment:
    """An experiment from the values of its file; `folder` is where its paths start."""
    fields = set(Experiment.__dataclass_fields__)
    for key in values:
        if key not in fields:
            raise unknown("key of an experiment", key, fields)
    for key in ("base", "arms", "seeds"):
        if key not in values:
            raise UserError(f"experiment: {key} is missing; docs/experiments.md has an example")
    return Experiment(
        name=_text("name", values.get("name", "experiment")),
        base=parse_base(values["base"], folder),
        arms=parse_arms(values["arms"], folder),
        seeds=parse_seeds(values["seeds"]),
        budget=parse_budget(values.get("budget", "tokens")),
        metric=_text("metric", values.get("metric", "bits_per_byte")),
        smallest_effect=_number("smallest_effect", values.get("smallest_effect")),
        stop_early=_switch("stop_early", values.get("stop_early", False)),
        search=_search(values.get("search") or {}),
        file=_path(_text("file", values.get("file", "")), folder),
    )


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The values of an experiment's file."""
    budget = experiment.budget
    amount = budget.amount if budget.amount is None or budget.amount % 1 else int(budget.amount)
    values: dict[str, Any] = {
        "name": experiment.name,
        "base": experiment.base,
        "arms": {
            arm.name: (
                {"file": arm.file, "settings": list(arm.settings)}
                if arm.file
                else list(arm.settings)
            )
            for arm in experiment.arms
        },
        "seeds": list(experiment.seeds),
        "budget": budget.unit if amount is None else {budget.unit: amount},
        "metric": experiment.metric,
        "smallest_effect": experiment.smallest_effect,
        "stop_early": experiment.stop_early,
        "search": {
            name: [_as_number(option) for option in options] for name, options in experiment.search
        },
        "file": experiment.file,
    }
    return {key: value for key, value in values.items() if value not in ("", None, {}, False)}


def _as_number(option: str) -> Any:
    """A value of a search without quotes in the file, where that gives the same text back."""
    value = parse_yaml_value(option, "search")
    return value if str(value) == option else option


def dump_experiment(experiment: Experiment) -> str:
    """An experiment as YAML."""
    import yaml

    return yaml.safe_dump(
        to_dict(experiment), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def _path(path: str, folder: Path) -> str:
    """A path relative to the experiment's file, or else to the working directory."""
    return str(folder / path) if path and (folder / path).exists() else path


def parse_base(value: Any, folder: Path) -> str:
    """A preset, or the path of a run directory, which is relative to `folder`."""
    base = _text("base", value)
    return _path(base, folder) if (folder / base / "config.yaml").is_file() else base


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{key}: {value!r} is not a text; put it in quotes")
    return value


def _switch(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{key}: {value!r} is not yes or no; give one of them")
    return value


def _number(key: str, value: Any) -> float | None:
    """A number; YAML 1.1 reads 5e-3 as a text."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise UserError(f"{key}: {value!r} is not a number; give one such as 0.005") from None


def parse_settings(name: str, values: Any) -> tuple[str, ...]:
    """The settings of an arm from a list of `NAME=VALUE`."""
    if not isinstance(values, list) or not all(
        isinstance(value, str) and "=" in value for value in values
    ):
        raise UserError(
            f"arm {name}: {values!r} is not a list of settings; give one such as [train.lr=0.01]"
        )
    return tuple(values)


def parse_arms(values: Any, folder: Path) -> tuple[Arm, ...]:
    """Arms from a mapping of their names; the paths in them are relative to `folder`."""
    if not isinstance(values, Mapping) or not values:
        raise UserError(
            f"arms: {values!r} is not a mapping; give lines such as `small-lr: [train.lr=0.01]`"
        )
    return tuple(_arm(str(name), value, folder) for name, value in values.items())


def _arm(name: str, value: Any, folder: Path) -> Arm:
    """An arm: a list of settings, or a mapping with `file` and `settings`."""
    if not isinstance(value, Mapping):
        return Arm(name, parse_settings(name, value))
    for key in value:
        if key not in ("file", "settings"):
            raise unknown(f"key of arm {name}", str(key), ["file", "settings"])
    return Arm(
        name,
        parse_settings(name, value.get("settings", [])),
        _path(_text(f"arm {name}: file", value.get("file", "")), folder),
    )


def parse_budget(value: Any) -> Budget:
    """A budget from its unit, or from a mapping of the unit to an amount."""
    unit, amount = (
        next(iter(value.items()), ("", None)) if isinstance(value, Mapping) else (value, None)
    )
    if unit not in BUDGET_UNITS or (isinstance(value, Mapping) and len(value) != 1):
        raise UserError(
            f"budget: {value!r} is not one of {', '.join(BUDGET_UNITS)}; give one, or a line such"
            " as `budget: {tokens: 2000000}`"
        )
    number = _number("budget", amount)
    if number is not None and not 0 < number < float("inf"):
        raise UserError(f"budget: {amount!r} is out of range; give a number above 0")
    return Budget(unit, number)


def _search(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Settings with the values to try."""
    if not isinstance(value, Mapping) or not all(
        isinstance(options, list) and options for options in value.values()
    ):
        raise UserError(
            f"search: {value!r} is not a mapping of lists;"
            " give lines such as `train.lr: [0.01, 0.02]`"
        )
    return tuple(
        (str(name), tuple(str(option) for option in options)) for name, options in value.items()
    )
