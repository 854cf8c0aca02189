"""What a run will take, before it runs; and afterwards, what was predicted beside what it took.

Proof: tests/cli/test_plan.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional

from llm_scratch.cli.corpus import load_corpus
from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import load_run_info, resolve_model_path
from llm_scratch.cli.output import is_quiet, print_json
from llm_scratch.cli.result_json import plan_comparison_json, plan_json
from llm_scratch.cli.terminal import console, keeps_lines, print_warning, table
from llm_scratch.config import DataConfig, ModelConfig, RunConfig, SystemConfig, TrainConfig, load_config
from llm_scratch.errors import RESOURCES, USAGE, UserError
from llm_scratch.formatting import format_bytes, format_count, format_duration, shell_command
from llm_scratch.presets import PRESETS, preset

if TYPE_CHECKING:
    from llm_scratch.data.corpus import Corpus
    from llm_scratch.planning.plan import Plan as Prediction


@dataclass(frozen=True)
class Plan(ReportCommand):
    """What training PRESET will take here: memory, time, tokens, what fits.

    Of a RUN it shows what was predicted beside what it took.

    The flags are those of train. It takes seconds, and writes nothing.

    examples:
      llm-scratch plan gpt2-small --train.batch-size 4
      llm-scratch plan runs/bard
    """

    preset: Positional[Annotated[str, option("PRESET|RUN", help=f"{', '.join(PRESETS)}; or a run directory")]] = ""
    config: Annotated[str, option("FILE")] = ""
    """a YAML file of settings, over the preset's"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: SystemConfig = field(default_factory=SystemConfig)

    @classmethod
    def defaults(cls, words: Sequence[str], given: Mapping[str, str], asks: bool) -> Plan:
        """What flags change: the preset's or the run's settings, with the file's over them."""
        if not words and "--config" not in given and not asks:
            raise UserError(f"which preset or run? presets: {', '.join(PRESETS)}; `llm-scratch runs list` shows runs", USAGE)
        base = RunConfig()
        if words:
            with suppress(UserError):  # `run` says what is wrong with the name
                base = preset(words[0]) if words[0] in PRESETS else load_config(_run(words[0]) / "config.yaml")
        if given.get("--config"):
            base = load_config(given["--config"], base)
        return cls(model=base.model, data=base.data, train=base.train, machine=base.machine)

    def run(self) -> None:
        """Print the plan, or the comparison."""
        config = RunConfig(self.model, self.data, self.train, self.machine)
        folder = _run(self.preset) if self.preset and self.preset not in PRESETS else None
        if folder:
            load_config(folder / "config.yaml")
        from llm_scratch.planning.plan import read_plan

        if folder and (run := load_run_info(folder)) is not None:
            run.check_trainable()
        found = read_plan(folder) if folder else None
        plan = found or make_prediction(config, self.device, console(stderr=True))
        if folder and (folder / "metrics.jsonl").is_file():
            _compare(plan, folder, found is not None, self.json)
        elif self.json:
            print_json(plan_json(plan))
        else:
            show(plan, config, console())


def _run(name: str) -> Path:
    """The run directory that is meant, or the error for a word that is neither a preset nor a run."""
    try:
        folder = resolve_model_path(name)
    except UserError as e:
        if name == "text":
            raise UserError("settings for a text of your own are chosen by `llm-scratch train text PATH --print-config`", USAGE) from e
        own = "if a Python file of yours defines the preset, add --import FILE"
        raise UserError(f"{name!r} is neither a preset ({', '.join(PRESETS)}) nor a run here or in runs/; {own}") from e
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is no run directory (no config.yaml); expected a preset ({', '.join(PRESETS)}) or a run")
    return folder


def make_prediction(config: RunConfig, wanted: str, screen: Console) -> Prediction:
    """Read the text, rehearse and try a step; a text that cannot be read is planned without."""
    import torch

    from llm_scratch.cli.device import resolve_device
    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.planning.plan import make_plan

    keep_freed_memory()
    device, _ = resolve_device(wanted)
    corpus = None
    try:
        config, corpus = load_corpus(config, screen)
    except UserError as e:
        print_warning(f"planned without the text, rows taken as full: {e}", screen)
    with screen.status("trying a few steps …"):
        return make_plan(config, torch.device(device), corpus)


def print_plan(config: RunConfig, folder: Path, device: str, corpus: Corpus, screen: Console) -> Prediction | None:
    """The plan of a run that is about to begin, told in a line; None for one that goes on, or is over before a plan is made."""
    import torch

    from llm_scratch.planning.plan import make_plan, worth_planning
    from llm_scratch.training.launcher import launched_rank

    if (folder / "metrics.jsonl").exists() or launched_rank().size > 1:
        return None
    if not worth_planning(config, corpus, torch.device(device)):
        return None
    with screen.status("trying a few steps …"):
        plan = make_plan(config, torch.device(device), corpus)
    took = f"about {format_duration(plan.seconds)} ({plan.seconds_per_step:.2g} s a step)"
    screen.print(f"plan: {format_bytes(plan.peak_memory)} of memory at most, {took}", soft_wrap=keeps_lines(screen))
    warn_of_load(plan, screen)
    return plan


def warn_of_load(plan: Prediction, screen: Console) -> None:
    """Print that other programs use the processors, where they make the predicted time too long."""
    alone = plan.seconds_alone
    if alone is None:
        return
    print_warning(
        f"other programs use {plan.other_load:.1f} of {plan.threads} processors, so the time is uncertain; "
        f"without them about {format_duration(alone)}",
        screen,
    )


def check_memory(config: RunConfig, device: str, ignore: bool) -> None:
    """Refuse a run that cannot fit into memory, before its text is read (see `training.memory_check`).

    Args:
        ignore: check nothing.
    Raises:
        UserError: it cannot fit (exit code 6).
    """
    import torch

    from llm_scratch.planning import memory_check

    if not ignore:
        memory_check.check_memory(config, torch.device(device))


def check_fits(plan: Prediction | None, config: RunConfig, screen: Console, ignore_memory: bool) -> None:
    """Refuse a run that does not fit into memory by its plan, and say what would fit.

    Args:
        plan: of the run; None for a short one, which passes.
        ignore_memory: only warn, as with `--ignore-memory`.
    Raises:
        UserError: it does not fit (exit code 6).
    """
    lines = [] if plan is None else _does_not_fit(plan, config)
    if lines and not ignore_memory:
        raise UserError(f"memory: {' '.join(lines)} --ignore-memory starts it anyway.", RESOURCES)
    for line in lines:
        print_warning(line, screen)


def compare_with_plan(folder: Path) -> str | None:
    """What the plan of a run said beside what it took, in a line; None for a run that began without one."""
    from llm_scratch.planning.plan import measured, read_plan
    from llm_scratch.training.plot import read_metrics

    plan, took = read_plan(folder), measured(read_metrics(folder))
    if plan is None or "seconds_per_step" not in took:
        return None
    said = f"{plan.seconds_per_step:.3g} s a step was {took['seconds_per_step']:.3g}"
    if "peak_memory" in took:
        said = f"{format_bytes(plan.peak_memory)} of memory was {format_bytes(round(took['peak_memory']))}, {said}"
    return f"{said}; more: {shell_command('plan', folder)}"


def show(plan: Prediction, config: RunConfig, screen: Console) -> None:
    """The plan as a table."""
    memory, model = plan.memory, config.model
    steps = plan.steps * plan.seconds_per_step
    passes = "" if plan.passes is None else f", {plan.passes:,.1f} times over the text"
    room = "" if plan.free_memory is None else f" of {format_bytes(plan.free_memory)} that there are"
    seconds = {"steps": steps, "looks": plan.look_seconds, "samples": plan.sample_seconds}
    parts = ", ".join(f"{name} {format_duration(each)}" for name, each in seconds.items())
    shape = f"{model.n_layers} layers of {model.emb_dim}, context {model.context_length:,}"
    rates = f"{format_count(plan.matrix_rate)}FLOP/s, {format_bytes(plan.read_bandwidth)}/s read"
    gradients, optimizer = format_bytes(memory.gradients), format_bytes(memory.optimizer)
    grid = table("", "", left=2)
    grid.show_header = False
    for name, what in (
        ("machine", f"{plan.device}, threads: {plan.threads}; {rates}"),
        ("model", f"{format_count(plan.parameters)} parameters, {shape}"),
        ("FLOPs", f"{format_count(plan.flops_per_token)} a token, {format_count(plan.flops_per_token * plan.tokens_per_step)} a step"),
        ("tokens", f"{plan.tokens_per_step:,} a step, {format_count(plan.tokens)} in {plan.steps:,} steps{passes}"),
        ("memory", f"{format_bytes(plan.peak_memory)}{room}"),
        ("", f"weights {format_bytes(memory.weights)}, gradients {gradients}, optimizer {optimizer},"),
        ("", f"activations {format_bytes(memory.step)}, program and text {format_bytes(plan.before)}"),
        ("time", f"{format_duration(plan.seconds)}: {plan.seconds_per_step:.3g} s a step, {plan.mfu:.0%} MFU"),
        ("", f"{parts}; saving not counted"),
        ("tried", f"{plan.trial}; products in {plan.precision}"),
    ):  # fmt: skip
        grid.add_row(name, what)
    screen.print(grid)
    screen.print()
    warn_of_load(plan, screen)
    for line in _does_not_fit(plan, config) or [f"It fits: batch_size {config.train.batch_size} in {_parts(config.train.micro_batches)}."]:
        screen.print(line, soft_wrap=keeps_lines(screen))


def _parts(micro_batches: int) -> str:
    return "one piece" if micro_batches == 1 else f"{micro_batches} micro-batches"


def _does_not_fit(plan: Prediction, config: RunConfig) -> list[str]:
    """What is too large, by how much, and what fits; nothing where all is well."""
    if not plan.missing_memory or plan.free_memory is None:
        return []
    lines = [
        f"It does not fit: {format_bytes(plan.peak_memory)} needed, {format_bytes(plan.free_memory)} there, "
        f"{format_bytes(plan.missing_memory)} too much."
    ]
    if plan.micro_batches is not None:
        flags = [f"--train.micro-batches {plan.micro_batches}"] * (plan.micro_batches != config.train.micro_batches)
        flags += ["--machine.recompute"] * (plan.recompute and not config.machine.recompute)
        cost = ", a third slower" if plan.recompute and not config.machine.recompute else ""
        lines.append(f"{' '.join(flags)} takes {format_bytes(plan.fitting_peak)} and learns the same{cost}.")
    else:
        kept = plan.before + plan.memory.weights + plan.memory.gradients + plan.memory.optimizer
        why = "weights, gradients and optimizer alone are too much" if kept > plan.free_memory else "one row is too long"
        smaller = "a smaller --model.emb-dim or --model.n-layers" if kept > plan.free_memory else "a smaller --model.context-length"
        lines.append(f"Even one row at a time, recomputed, takes {format_bytes(plan.fitting_peak)}: {why}; try {smaller}.")
    return lines


def _compare(plan: Prediction, folder: Path, began_with_it: bool, as_json: bool) -> None:
    """What was predicted for a run beside what it took."""
    from llm_scratch.planning.plan import measured
    from llm_scratch.training.plot import read_metrics

    rows = read_metrics(folder)
    took = measured(rows)
    done = max((row["step"] for row in rows), default=0)
    predicted = {"peak_memory": plan.peak_memory, "seconds_per_step": plan.seconds_per_step, "seconds": plan.seconds}
    if as_json:
        print_json(plan_comparison_json(folder, predicted, took, plan.steps, done))
        return
    grid = table("", "predicted", "measured", "off by")
    for key, name, shown in (
        ("peak_memory", "memory at most", format_bytes), ("seconds_per_step", "a step", lambda s: f"{s:.3g} s"),
        ("seconds", "the whole run", format_duration),
    ):  # fmt: skip
        ready = key in took and (key != "seconds" or done == plan.steps)
        off = f"{predicted[key] / took[key] - 1:+.0%}" if ready and took[key] else ""
        grid.add_row(name, shown(predicted[key]), shown(took[key]) if ready else "-", off)
    screen = console()
    screen.print(grid)
    if done < plan.steps:
        screen.print(f"\n{done:,} of {plan.steps:,} steps are done.")
    if not began_with_it and not is_quiet():
        screen.print("\nThe run started without a plan, as short runs do; this plan was made now.")
        screen.print(f"Check the loss curve: {shell_command('runs', 'diagnose', folder)}", soft_wrap=True)
