"""`plan`: predict memory and time of a training run, or compare the prediction with a finished run.

Tests: tests/cli/test_plan.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from llm_scratch.cli.corpus import load_corpus
from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.init_from import with_architecture, with_length, with_tokenizer
from llm_scratch.cli.output import is_quiet, print_json
from llm_scratch.cli.result_json import plan_comparison_json, plan_json
from llm_scratch.cli.terminal import console, keeps_lines, print_warning, table
from llm_scratch.config import (
    DataConfig,
    GPTConfig,
    ModelConfig,
    RunConfig,
    SystemConfig,
    TrainConfig,
    load_config,
)
from llm_scratch.errors import RESOURCES, USAGE, UserError
from llm_scratch.formatting import (
    counted,
    format_bytes,
    format_count,
    format_duration,
    shell_command,
)
from llm_scratch.presets import PRESETS, preset
from llm_scratch.run_directory import find_run, open_run

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.data.corpus import Corpus
    from llm_scratch.planning.plan import Plan as Prediction


@dataclass(frozen=True)
class Plan(ReportCommand):
    """Predict memory and time of training PRESET on this machine.

    With a RUN, compare the prediction with what was measured.

    It has the flags of train, takes seconds and writes no file.

    examples:
      llm-scratch plan gpt2-small --train.batch-size 4
      llm-scratch plan runs/bard
    """

    preset: Positional[
        Annotated[str, option("PRESET|RUN", help=f"{', '.join(PRESETS)}; or a run directory")]
    ] = ""
    config: Annotated[str, option("FILE")] = ""
    """a YAML file of settings that override the preset"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    model: ModelConfig = field(default_factory=GPTConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    system: SystemConfig = field(default_factory=SystemConfig)

    @classmethod
    def defaults(
        cls, words: Sequence[str], set_flags: Mapping[str, str], help_requested: bool
    ) -> Plan:
        """The settings before flags: those of the preset or the run, overridden by the file."""
        if not words and "--config" not in set_flags and not help_requested:
            raise UserError(
                f"PRESET or RUN is missing; presets: {', '.join(PRESETS)};"
                " `llm-scratch runs list` lists the runs",
                USAGE,
            )
        base = RunConfig()
        if words:
            with suppress(UserError):  # `run` reports an unknown name
                if words[0] in PRESETS:
                    base = preset(words[0])
                else:
                    base = load_config(_run(words[0]) / "config.yaml")
        if set_flags.get("--config"):
            base = load_config(set_flags["--config"], base)
        base = with_length(with_tokenizer(with_architecture(base, set_flags), set_flags), set_flags)
        return cls(model=base.model, data=base.data, train=base.train, system=base.system)

    def run(self) -> None:
        """Print the plan, or the comparison."""
        config = RunConfig(self.model, self.data, self.train, self.system)
        folder = _run(self.preset) if self.preset and self.preset not in PRESETS else None
        if folder:
            load_config(folder / "config.yaml")
        from llm_scratch.planning.plan import read_plan

        if folder and (run := find_run(folder)) is not None:
            run.check_trainable()
        saved = read_plan(folder) if folder else None
        plan = saved or make_prediction(config, self.device, console(stderr=True))
        if folder and (folder / "metrics.jsonl").is_file():
            _compare(plan, folder, saved is not None, self.json)
        elif self.json:
            print_json(plan_json(plan))
        else:
            print_table(plan, config, console())


def _run(name: str) -> Path:
    """The run directory of a name.

    Raises:
        UserError: the name is neither a preset nor a run.
    """
    try:
        folder = resolve_model_path(name)
    except UserError as e:
        if name == "text":
            raise UserError(
                "settings for a text of your own are chosen by `llm-scratch train text PATH"
                " --print-config`",
                USAGE,
            ) from e
        own = "if a Python file of yours defines the preset, add --import FILE"
        raise UserError(
            f"{name!r} is neither a preset ({', '.join(PRESETS)}) nor a run here or in runs/; {own}"
        ) from e
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder}: not a run directory (no config.yaml);"
            f" use a preset ({', '.join(PRESETS)}) or a run"
        )
    return folder


def make_prediction(config: RunConfig, requested: str, screen: Console) -> Prediction:
    """Predict a run: read the text, estimate memory, time a few steps.

    A text that cannot be read is left out.
    """
    import torch

    from llm_scratch.hardware.allocator import keep_freed_memory
    from llm_scratch.hardware.device import choose_device
    from llm_scratch.planning.plan import make_plan

    keep_freed_memory()
    device = choose_device(requested).name
    corpus = None
    try:
        config, corpus = load_corpus(config, screen)
    except UserError as e:
        print_warning(f"planned without the text, for full rows: {e}", screen)
    with screen.status("timing a few steps …"):
        return make_plan(config, torch.device(device), corpus)


def print_plan(
    config: RunConfig, folder: Path, device: str, corpus: Corpus, screen: Console
) -> Prediction | None:
    """Print the plan of a new run in one line.

    Returns None for a resumed run, and for one shorter than its planning.
    """
    import torch

    from llm_scratch.planning.plan import make_plan, worth_planning
    from llm_scratch.training.launcher import launched_rank

    if (folder / "metrics.jsonl").exists() or launched_rank().size > 1:
        return None
    if not worth_planning(config, corpus, torch.device(device)):
        return None
    with screen.status("timing a few steps …"):
        plan = make_plan(config, torch.device(device), corpus)
    duration = f"about {format_duration(plan.seconds)} ({plan.seconds_per_step:.2g} s a step)"
    screen.print(
        f"plan: {format_bytes(plan.peak_memory)} of memory at most, {duration}",
        soft_wrap=keeps_lines(screen),
    )
    warn_of_load(plan, screen)
    return plan


def warn_of_load(plan: Prediction, screen: Console) -> None:
    """Warn if other programs use the CPU, which makes the predicted time uncertain."""
    alone = plan.seconds_alone
    if alone is None:
        return
    print_warning(
        f"other programs use {plan.other_load:.1f} of {plan.threads} processors,"
        f" so the time is uncertain; without them about {format_duration(alone)}",
        screen,
    )


def check_memory(config: RunConfig, device: str, ignore: bool) -> None:
    """Check that a run can fit into memory, before its text is read (see `planning.memory_check`).

    Args:
        ignore: skip the check.
    Raises:
        UserError: the run cannot fit (exit code 6).
    """
    import torch

    from llm_scratch.planning import memory_check

    if not ignore:
        memory_check.check_memory(config, torch.device(device))


def check_fits(
    plan: Prediction | None, config: RunConfig, screen: Console, ignore_memory: bool
) -> None:
    """Check that a planned run fits into memory.

    Args:
        plan: of the run; None for a short one, which is not checked.
        ignore_memory: only warn, as with `--ignore-memory`.
    Raises:
        UserError: the run does not fit (exit code 6); names settings that do.
    """
    lines = [] if plan is None else _does_not_fit(plan, config)
    if lines and not ignore_memory:
        raise UserError(
            f"memory: {' '.join(lines)} Or start it anyway with --ignore-memory.", RESOURCES
        )
    for line in lines:
        print_warning(line, screen)


def compare_with_plan(folder: Path) -> str | None:
    """Predicted and measured memory and time of a run in one line; None without a plan."""
    from llm_scratch.planning.plan import measured, read_plan

    plan, result = read_plan(folder), measured(open_run(folder).metrics)
    if plan is None or "seconds_per_step" not in result:
        return None
    text = (
        f"{plan.seconds_per_step:.3g} s a step planned, {result['seconds_per_step']:.3g} measured"
    )
    if "peak_memory" in result:
        memory = (
            f"{format_bytes(plan.peak_memory)} of memory planned,"
            f" {format_bytes(round(result['peak_memory']))} measured"
        )
        text = f"{memory}; {text}"
    return f"{text}; more: {shell_command('plan', folder)}"


def print_table(plan: Prediction, config: RunConfig, screen: Console) -> None:
    """Print a plan as a table."""
    memory, model = plan.memory, config.model
    steps = plan.steps * plan.seconds_per_step
    epochs = "" if plan.epochs is None else f", {plan.epochs:,.1f} epochs"
    free = "" if plan.free_memory is None else f" of {format_bytes(plan.free_memory)} free"
    seconds = {"steps": steps, "evaluations": plan.eval_seconds, "samples": plan.sample_seconds}
    parts = ", ".join(f"{name} {format_duration(each)}" for name, each in seconds.items())
    layers = f"{counted(model.n_layers, 'layer')} of {model.emb_dim}"
    shape = f"{layers}, context {model.context_length:,}"
    rates = f"{format_count(plan.matrix_rate)}FLOP/s, {format_bytes(plan.read_bandwidth)}/s read"
    flops = format_count(plan.flops_per_token)
    flops_a_step = format_count(plan.flops_per_token * plan.tokens_per_step)
    tokens = f"{plan.tokens_per_step:,} a step, {format_count(plan.tokens)} in {plan.steps:,} steps"
    weights, gradients = format_bytes(memory.weights), format_bytes(memory.gradients)
    optimizer, activations = format_bytes(memory.optimizer), format_bytes(memory.step)
    speed = f"{plan.seconds_per_step:.3g} s a step, {plan.mfu:.0%} MFU"
    grid = table("", "", left=2)
    grid.show_header = False
    for name, value in (
        ("machine", f"{plan.device}, threads: {plan.threads}; {rates}"),
        ("model", f"{format_count(plan.parameters)} parameters, {shape}"),
        ("FLOPs", f"{flops} a token, {flops_a_step} a step"),
        ("tokens", f"{tokens}{epochs}"),
        ("memory", f"{format_bytes(plan.peak_memory)}{free}"),
        ("", f"weights {weights}, gradients {gradients}, optimizer {optimizer},"),
        ("", f"activations {activations}, program and text {format_bytes(plan.baseline_memory)}"),
        ("time", f"{format_duration(plan.seconds)}: {speed}"),
        ("", f"{parts}; saving not counted"),
        ("timed on", f"{plan.trial}; matrix products in {plan.precision}"),
    ):
        grid.add_row(name, value)
    screen.print(grid)
    screen.print()
    warn_of_load(plan, screen)
    for line in _does_not_fit(plan, config) or [
        f"It fits: batch_size {config.train.batch_size} in {_parts(config.train.micro_batches)}."
    ]:
        screen.print(line, soft_wrap=keeps_lines(screen))


def _parts(micro_batches: int) -> str:
    return "one micro-batch" if micro_batches == 1 else f"{micro_batches} micro-batches"


def _does_not_fit(plan: Prediction, config: RunConfig) -> list[str]:
    """Sentences on what does not fit and which settings do; empty if the run fits."""
    if not plan.missing_memory or plan.free_memory is None:
        return []
    lines = [
        f"It does not fit: {format_bytes(plan.peak_memory)} needed,"
        f" {format_bytes(plan.free_memory)} free, {format_bytes(plan.missing_memory)} too much."
    ]
    if plan.micro_batches is not None:
        flags = [f"--train.micro-batches {plan.micro_batches}"] * (
            plan.micro_batches != config.train.micro_batches
        )
        flags += ["--system.activation-checkpointing"] * (
            plan.activation_checkpointing and not config.system.activation_checkpointing
        )
        if plan.activation_checkpointing and not config.system.activation_checkpointing:
            cost = ", a third slower"
        else:
            cost = ""
        lines.append(
            f"{' '.join(flags)} takes {format_bytes(plan.fitting_peak)} with the same result{cost}."
        )
    else:
        kept = (
            plan.baseline_memory
            + plan.memory.weights
            + plan.memory.gradients
            + plan.memory.optimizer
        )
        if kept > plan.free_memory:
            reason = "weights, gradients and optimizer alone are too large"
        else:
            reason = "one row is too long"
        if kept > plan.free_memory:
            smaller = "a smaller --model.emb-dim or --model.n-layers"
        else:
            smaller = "a smaller --model.context-length"
        lines.append(
            "Even one row at a time with activation checkpointing takes"
            f" {format_bytes(plan.fitting_peak)}: {reason}; try {smaller}."
        )
    return lines


def _compare(plan: Prediction, folder: Path, has_plan: bool, as_json: bool) -> None:
    """Print predicted and measured memory and time of a run."""
    from llm_scratch.planning.plan import measured

    rows = open_run(folder).metrics
    result = measured(rows)
    done = max((row["step"] for row in rows), default=0)
    predicted = {
        "peak_memory": plan.peak_memory,
        "seconds_per_step": plan.seconds_per_step,
        "seconds": plan.seconds,
    }
    if as_json:
        print_json(plan_comparison_json(folder, predicted, result, plan.steps, done))
        return
    grid = table("", "predicted", "measured", "off by")
    for key, name, format_value in (
        ("peak_memory", "memory at most", format_bytes),
        ("seconds_per_step", "a step", lambda s: f"{s:.3g} s"),
        ("seconds", "the whole run", format_duration),
    ):
        ready = key in result and (key != "seconds" or done == plan.steps)
        off = f"{predicted[key] / result[key] - 1:+.0%}" if ready and result[key] else ""
        grid.add_row(
            name, format_value(predicted[key]), format_value(result[key]) if ready else "-", off
        )
    screen = console()
    screen.print(grid)
    if done < plan.steps:
        screen.print(f"\n{done:,} of {plan.steps:,} steps are done.")
    if not has_plan and not is_quiet():
        screen.print("\nThe run started without a plan, as short runs do; this plan was made now.")
        screen.print(
            f"Check the loss curve: {shell_command('runs', 'diagnose', folder)}", soft_wrap=True
        )
        warn_of_load(plan, screen)
